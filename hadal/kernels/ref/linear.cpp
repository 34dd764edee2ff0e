#include "hadal/kernels/linear.h"

#include "hadal/kernels/ref/linear_values.h"

namespace hadal::kernels::ref {
namespace {

double input_scale(const LinearArgs& a, Index row, Index column) {
  return a.x_scale ? a.x_scale[row * a.x_scale_stride + column / 128] : 1.0;
}

double input(const LinearArgs& a, Index row, Index column) {
  const float x = input_row(a, row)[column];
  return a.activations == Activations::kBf16 ? bf16_to_float(float_to_bf16(x)) : x;
}

}  // namespace

void linear(const LinearArgs& a, Index n_begin, Index n_end) {
  check_layout(a);
  if (rounds_to_int8(a)) return linear_int8(a, n_begin, n_end);
  for (Index i = 0; i < a.m; ++i)
    for (Index j = n_begin; j < n_end; ++j) {
      double sum = 0;
      for (Index c = 0; c < a.k; ++c)
        sum += input(a, i, c) * input_scale(a, i, c) * (code_value(a, j, c) * weight_scale(a, j, c));
      a.y[i * a.y_stride + j] = static_cast<float>(sum);
    }
}

void linear_transposed(const LinearArgs& a, Index m_begin, Index m_end) {
  check_layout(a);
  for (Index i = m_begin; i < m_end; ++i)
    for (Index c = 0; c < a.k; ++c) {
      double sum = 0;
      for (Index j = 0; j < a.n; ++j) sum += double{input_row(a, i)[j]} * (code_value(a, j, c) * weight_scale(a, j, c));
      a.y[i * a.y_stride + c] = static_cast<float>(sum);
    }
}

}  // namespace hadal::kernels::ref
