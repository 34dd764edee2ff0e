// y = x W^T for float32 activations and weights in F32, BF16, F16 or E4M3 with 128x128 scales.
//
// One order of sums per instruction set, whatever the number of rows: the lanes of a vector run along K, each output
// has one accumulator, with E4M3 the sum over each 128 of K is scaled and added to the running one (rule 34), and the
// lanes are added at the end. So a product of one row and one of a thousand give the same bits.
#pragma once

#include "hadal/core/dtype.h"
#include "hadal/core/tensor.h"

namespace hadal::kernels {

struct LinearArgs {
  const float* x = nullptr;  // [m, k]
  Index x_stride = 0;
  const float* x_scale = nullptr;  // [m, ceil(k / 128)], only with E4M3 weights: x holds codes' values, not yet scaled
  Index x_scale_stride = 0;
  const void* w = nullptr;  // [n, k], contiguous rows of w_stride elements
  DType w_dtype = DType::kF32;
  Index w_stride = 0;
  const float* w_scale = nullptr;  // E4M3: [.., ceil(k / 128)]; row r of w uses row (w_first_row + r) / 128
  Index w_scale_stride = 0;
  Index w_first_row = 0;
  float* y = nullptr;  // [m, n]
  Index y_stride = 0;
  Index m = 0, n = 0, k = 0;
};

namespace ref {
// Columns [n_begin, n_end) of y; sums in double. The oracle.
void linear(const LinearArgs& args, Index n_begin, Index n_end);
// y[m, k] = x[m, n] W: the transposed product that absorbs W^UK into a query; x has w's rows as columns.
void linear_transposed(const LinearArgs& args, Index m_begin, Index m_end);
}  // namespace ref

namespace avx2 {
// `panel` is scratch of at least linear_panel_floats(k) floats; used when m is large.
void linear(const LinearArgs& args, Index n_begin, Index n_end, float* panel);
Index linear_panel_floats(Index k);
void linear_transposed(const LinearArgs& args, Index m_begin, Index m_end);
}  // namespace avx2

}  // namespace hadal::kernels
