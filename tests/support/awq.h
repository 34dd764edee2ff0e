// Writes matrices in AutoAWQ's layout, for tests: by inputs, eight outputs a word in the order 0 2 4 6 1 3 5 7.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "hadal/core/number_formats.h"
#include "hadal/core/tensor.h"

namespace hadal::test {

struct AwqTensors {
  Tensor qweight, qzeros, scales;
  Tensor values;  // F32 [N, K]: what they stand for
};

inline AwqTensors make_awq(const float* w, Index n, Index k, Index group) {
  constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  const Index groups = k / group;
  AwqTensors t{Tensor::zeros(DType::kI32, {k, n / 8}), Tensor::zeros(DType::kI32, {groups, n / 8}),
               Tensor(DType::kF16, {groups, n}), Tensor(DType::kF32, {n, k})};
  const auto put = [&](const Tensor& to, Index row, Index output, int code) {
    const Index nibble = std::find(kOrder, kOrder + 8, static_cast<int>(output % 8)) - kOrder;
    to->data<std::int32_t>()[row * (n / 8) + output / 8] |=
        static_cast<std::int32_t>(static_cast<std::uint32_t>(code) << (4 * nibble));
  };
  for (Index r = 0; r < n; ++r)
    for (Index g = 0; g < groups; ++g) {
      const float* x = w + r * k + g * group;
      const float low = std::min(0.0f, *std::min_element(x, x + group));
      const float high = std::max(0.0f, *std::max_element(x, x + group));
      const f16 scale = float_to_f16(std::max(high - low, 1e-3f) / 15);
      const float s = f16_to_float(scale);
      const int zero = std::clamp(static_cast<int>(std::lround(-low / s)), 0, 15);
      t.scales->data<f16>()[g * n + r] = scale;
      put(t.qzeros, g, r, zero);
      for (Index i = 0; i < group; ++i) {
        const int code = std::clamp(static_cast<int>(std::lround(x[i] / s)) + zero, 0, 15);
        put(t.qweight, g * group + i, r, code);
        t.values->data<float>()[r * k + g * group + i] = static_cast<float>(code - zero) * s;
      }
    }
  return t;
}

}  // namespace hadal::test
