// Activations::kInt8 in scalar loops: all bits of the fast kernels (int8_impl.h).
//
// Over a block of 128 columns, or the group of an INT4 weight, x becomes integers of 8 bits with one scale, its largest
// magnitude / 127; so do FP8 and BF16 weights, while INT8 and INT4 codes are integers already. The block's sum is exact
// and is added to the total times both scales, blocks ascending.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hadal/kernels/ref/linear_values.h"

namespace hadal::kernels::ref {
namespace {

constexpr float kLeast = 0x1p-119f;  // so that the reciprocal is finite

struct Rounded {
  std::vector<int> codes;
  float scale = 0;  // not a number if a value is not finite
};

Rounded round_values(const std::vector<float>& v) {
  float largest = kLeast;
  bool finite = true;
  for (const float f : v) {
    largest = std::max(largest, std::abs(f));
    finite = finite && std::isfinite(f);
  }
  Rounded r{std::vector<int>(v.size(), 0), finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN()};
  for (std::size_t i = 0; finite && i < v.size(); ++i)
    r.codes[i] = static_cast<int>(std::nearbyint(v[i] * (127.0f / largest)));
  return r;
}

Rounded round_weights(const LinearArgs& a, Index row, Index begin, Index end) {
  std::vector<float> values;
  for (Index c = begin; c < end; ++c) values.push_back(static_cast<float>(code_value(a, row, c)));
  Rounded r;
  if (a.w_dtype == DType::kBF16 || a.w_dtype == DType::kF8E4M3) {
    r = round_values(values);
  } else {
    r.scale = 1;
    for (const float v : values) r.codes.push_back(static_cast<int>(v));
  }
  if (a.w_scale) r.scale *= static_cast<float>(weight_scale(a, row, begin));
  return r;
}

}  // namespace

void linear_int8(const LinearArgs& a, Index n_begin, Index n_end) {
  for (Index i = 0; i < a.m; ++i) std::fill(a.y + i * a.y_stride + n_begin, a.y + i * a.y_stride + n_end, 0.0f);
  const Index block = std::min<Index>(a.w_scale ? a.scale_columns : 128, 128);
  for (Index begin = 0; begin < a.k; begin += block) {
    const Index end = std::min(begin + block, a.k);
    std::vector<Rounded> x;
    for (Index i = 0; i < a.m; ++i) x.push_back(round_values({input_row(a, i) + begin, input_row(a, i) + end}));
    for (Index j = n_begin; j < n_end; ++j) {
      const Rounded w = round_weights(a, j, begin, end);
      for (Index i = 0; i < a.m; ++i) {
        const Rounded& row = x[static_cast<std::size_t>(i)];
        int sum = 0;
        for (std::size_t c = 0; c < w.codes.size(); ++c) sum += row.codes[c] * w.codes[c];
        float& total = a.y[i * a.y_stride + j];
        total = std::fma(static_cast<float>(sum), w.scale * row.scale, total);
      }
    }
  }
}

}  // namespace hadal::kernels::ref
