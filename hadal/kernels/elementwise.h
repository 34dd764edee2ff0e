// Row-wise and element-wise kernels. All take one row; ops cut the work.
#pragma once

#include <cstdint>

#include "hadal/core/dtype.h"
#include "hadal/core/view.h"

namespace hadal::kernels {

namespace ref {
// y = x / sqrt(mean(x^2) + eps) * weight; returns the reciprocal of that root.
float rms_norm(const float* x, const float* weight, float* y, Index n, float eps);
// y = silu(gate) * up, silu(a) = a / (1 + exp(-a))
void swiglu(const float* gate, const float* up, float* y, Index n);
// y += a * x
void axpy(float a, const float* x, float* y, Index n);
// Rotates interleaved pairs: (x[2i], x[2i+1]) by the angle whose cosine and sine are given.
void rope(const float* x, const double* cos, const double* sin, float* y, Index pairs);
void to_float(const void* x, DType dtype, float* y, Index n);
void from_float(const float* x, DType dtype, void* y, Index n);  // F32, BF16 or F16
// Codes and scale of one 1x128 tile (rule 33); `values` receives the codes' values, unscaled.
float quantize_tile(const float* x, std::uint8_t* codes, float* values, Index n, bool ue8m0);
}  // namespace ref

namespace avx2 {
float rms_norm(const float* x, const float* weight, float* y, Index n, float eps);
void swiglu(const float* gate, const float* up, float* y, Index n);
void axpy(float a, const float* x, float* y, Index n);
void to_float(const void* x, DType dtype, float* y, Index n);
}  // namespace avx2

}  // namespace hadal::kernels
