#include "hadal/kernels/linear.h"

#include "hadal/core/number_formats.h"

namespace hadal::kernels::ref {
namespace {

Index scale_index(const LinearArgs& a, Index row, Index column) {
  return (a.w_first_row + row) / a.scale_rows * a.w_scale_stride + column / a.scale_columns;
}

template <class T>
T element(const LinearArgs& a, Index row, Index column) {
  return static_cast<const T*>(a.w)[row * a.w_stride + column];
}

double code_value(const LinearArgs& a, Index row, Index column) {
  switch (a.w_dtype) {
    case DType::kF32:
      return element<float>(a, row, column);
    case DType::kBF16:
      return bf16_to_float(element<bf16>(a, row, column));
    case DType::kF16:
      return f16_to_float(element<f16>(a, row, column));
    case DType::kI8:
      return element<std::int8_t>(a, row, column);
    case DType::kI32: {
      const auto eight = element<std::uint32_t>(a, row, column / 8);
      const int code = static_cast<int>(eight >> (4 * (column % 8)) & 15);
      return code - (a.w_zero ? a.w_zero[scale_index(a, row, column)] : 8);
    }
    default:
      return e4m3_to_float(element<e4m3>(a, row, column));
  }
}

double weight_scale(const LinearArgs& a, Index row, Index column) {
  if (!a.w_scale) return 1;
  const Index i = scale_index(a, row, column);
  switch (a.w_scale_dtype) {
    case DType::kBF16:
      return bf16_to_float(static_cast<const bf16*>(a.w_scale)[i]);
    case DType::kF16:
      return f16_to_float(static_cast<const f16*>(a.w_scale)[i]);
    default:
      return static_cast<const float*>(a.w_scale)[i];
  }
}

const float* input_row(const LinearArgs& a, Index i) {
  return a.x + (a.x_rows ? a.x_rows[i] : i) * a.x_stride;
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
        sum += double{input_row(a, i)[c]} * input_scale(a, i, c) * (code_value(a, j, c) * weight_scale(a, j, c));
      a.y[i * a.y_stride + j] = static_cast<float>(sum);
    }
}

void linear_transposed(const LinearArgs& a, Index m_begin, Index m_end) {
  for (Index i = m_begin; i < m_end; ++i)
    for (Index c = 0; c < a.k; ++c) {
      double sum = 0;
      for (Index j = 0; j < a.n; ++j) sum += double{input_row(a, i)[j]} * (code_value(a, j, c) * weight_scale(a, j, c));
      a.y[i * a.y_stride + c] = static_cast<float>(sum);
    }
}

}  // namespace hadal::kernels::ref
