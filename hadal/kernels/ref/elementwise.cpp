#include "hadal/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hadal/core/number_formats.h"

namespace hadal::kernels::ref {
namespace {

// Smallest amax that an activation tile is scaled by, as in the reference inference code.
constexpr float kLeastAmax = 1e-4f;

}  // namespace

float rms_norm(const float* x, const float* weight, float* y, Index n, float eps) {
  double squares = 0;
  for (Index i = 0; i < n; ++i) squares += double{x[i]} * x[i];
  const double r = 1.0 / std::sqrt(squares / static_cast<double>(n) + double{eps});
  for (Index i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * r * weight[i]);
  return static_cast<float>(r);
}

void swiglu(const float* gate, const float* up, float* y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = static_cast<float>(gate[i] / (1.0 + std::exp(-double{gate[i]})) * up[i]);
}

void axpy(float a, const float* x, float* y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] += a * x[i];
}

void rope(const float* x, const double* cos, const double* sin, float* y, Index pairs) {
  for (Index i = 0; i < pairs; ++i) {
    const double a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = static_cast<float>(a * cos[i] - b * sin[i]);
    y[2 * i + 1] = static_cast<float>(a * sin[i] + b * cos[i]);
  }
}

void to_float(const void* x, DType dtype, float* y, Index n) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(y, x, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case DType::kBF16:
      for (Index i = 0; i < n; ++i) y[i] = bf16_to_float(static_cast<const bf16*>(x)[i]);
      return;
    case DType::kF16:
      for (Index i = 0; i < n; ++i) y[i] = f16_to_float(static_cast<const f16*>(x)[i]);
      return;
    default:
      for (Index i = 0; i < n; ++i) y[i] = e4m3_to_float(static_cast<const e4m3*>(x)[i]);
      return;
  }
}

void from_float(const float* x, DType dtype, void* y, Index n) {
  switch (dtype) {
    case DType::kBF16:
      for (Index i = 0; i < n; ++i) static_cast<bf16*>(y)[i] = float_to_bf16(x[i]);
      return;
    case DType::kF16:
      for (Index i = 0; i < n; ++i) static_cast<f16*>(y)[i] = float_to_f16(x[i]);
      return;
    default:
      std::memcpy(y, x, static_cast<std::size_t>(n) * sizeof(float));
      return;
  }
}

float quantize_tile(const float* x, std::uint8_t* codes, float* values, Index n, bool ue8m0) {
  float amax = kLeastAmax;
  for (Index i = 0; i < n; ++i) amax = std::max(amax, std::abs(x[i]));
  float scale = amax / kE4M3Max;
  if (ue8m0) scale = round_up_to_power_of_two(scale);
  for (Index i = 0; i < n; ++i) {
    const e4m3 code = float_to_e4m3(x[i] / scale);
    if (codes) codes[i] = code.bits;
    if (values) values[i] = e4m3_to_float(code);
  }
  return scale;
}

}  // namespace hadal::kernels::ref
