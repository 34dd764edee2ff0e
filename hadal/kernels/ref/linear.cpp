#include "hadal/kernels/linear.h"

#include "hadal/core/number_formats.h"

namespace hadal::kernels::ref {
namespace {

// Of the code of (row, column) within the grid of scales.
Index grid_index(const LinearArgs& a, Index row, Index column) {
  return (a.w_first_row + row) / a.scale_rows * a.w_scale_stride + column / a.scale_columns;
}

int int4_value(const LinearArgs& a, Index row, Index column) {
  const auto word = static_cast<std::uint32_t>(static_cast<const std::int32_t*>(a.w)[row * a.w_stride + column / 8]);
  const int code = static_cast<int>((word >> (4 * (column % 8))) & 15u);
  return code - (a.w_zero ? a.w_zero[grid_index(a, row, column)] : 8);
}

double stored_value(const LinearArgs& a, Index row, Index column) {
  const Index i = row * a.w_stride + column;
  switch (a.w_dtype) {
    case DType::kF32:
      return static_cast<const float*>(a.w)[i];
    case DType::kBF16:
      return bf16_to_float(static_cast<const bf16*>(a.w)[i]);
    case DType::kF16:
      return f16_to_float(static_cast<const f16*>(a.w)[i]);
    case DType::kI8:
      return static_cast<const std::int8_t*>(a.w)[i];
    case DType::kI32:
      return int4_value(a, row, column);
    default:
      return e4m3_to_float(static_cast<const e4m3*>(a.w)[i]);
  }
}

double weight_scale(const LinearArgs& a, Index row, Index column) {
  if (!a.w_scale) return 1.0;
  const Index i = grid_index(a, row, column);
  if (a.w_scale_dtype == DType::kBF16) return bf16_to_float(static_cast<const bf16*>(a.w_scale)[i]);
  if (a.w_scale_dtype == DType::kF16) return f16_to_float(static_cast<const f16*>(a.w_scale)[i]);
  return static_cast<const float*>(a.w_scale)[i];
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
