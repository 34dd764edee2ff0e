// y = x W^T for float32 activations and weights in F32, BF16, F16, E4M3, I8 or packed INT4 with a grid of scales
// (ops/weight.h has the formats).
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
  const void* w = nullptr;  // [n, k], contiguous rows of w_stride elements; INT4: [n, ceil(k / 8)] words of eight codes
  DType w_dtype = DType::kF32;
  Index w_stride = 0;
  // E4M3, I8, I32 (INT4): value (r, c) has the scale at [(w_first_row + r) / scale_rows][c / scale_columns] of the
  // grid.
  const void* w_scale = nullptr;
  DType w_scale_dtype = DType::kF32;  // BF16 and F16 with INT4 only
  Index w_scale_stride = 0;           // of the grid's rows, zero points included
  Index scale_rows = 128;
  Index scale_columns = 128;
  const std::uint8_t* w_zero = nullptr;  // INT4: the same grid; none: 8 everywhere
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
