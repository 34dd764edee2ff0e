#include "hadal/kernels/linear.h"

#include "hadal/core/number_formats.h"

namespace hadal::kernels::ref {
namespace {

double stored_value(const LinearArgs& a, Index row, Index column) {
  const Index i = row * a.w_stride + column;
  switch (a.w_dtype) {
    case DType::kF32:
      return static_cast<const float*>(a.w)[i];
    case DType::kBF16:
      return bf16_to_float(static_cast<const bf16*>(a.w)[i]);
    case DType::kF16:
      return f16_to_float(static_cast<const f16*>(a.w)[i]);
    default:
      return e4m3_to_float(static_cast<const e4m3*>(a.w)[i]);
  }
}

double weight_scale(const LinearArgs& a, Index row, Index column) {
  return a.w_scale ? a.w_scale[(a.w_first_row + row) / 128 * a.w_scale_stride + column / 128] : 1.0;
}

double input_scale(const LinearArgs& a, Index row, Index column) {
  return a.x_scale ? a.x_scale[row * a.x_scale_stride + column / 128] : 1.0;
}

}  // namespace

void linear(const LinearArgs& a, Index n_begin, Index n_end) {
  for (Index i = 0; i < a.m; ++i)
    for (Index j = n_begin; j < n_end; ++j) {
      double sum = 0;
      for (Index c = 0; c < a.k; ++c)
        sum += double{a.x[i * a.x_stride + c]} * input_scale(a, i, c) * (stored_value(a, j, c) * weight_scale(a, j, c));
      a.y[i * a.y_stride + j] = static_cast<float>(sum);
    }
}

void linear_transposed(const LinearArgs& a, Index m_begin, Index m_end) {
  for (Index i = m_begin; i < m_end; ++i)
    for (Index c = 0; c < a.k; ++c) {
      double sum = 0;
      for (Index j = 0; j < a.n; ++j)
        sum += double{a.x[i * a.x_stride + j]} * (stored_value(a, j, c) * weight_scale(a, j, c));
      a.y[i * a.y_stride + c] = static_cast<float>(sum);
    }
}

}  // namespace hadal::kernels::ref
