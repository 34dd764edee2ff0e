// What a product's arguments say of single values; for the scalar kernels.
#pragma once

#include "hadal/core/number_formats.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels::ref {

inline Index scale_index(const LinearArgs& a, Index row, Index column) {
  return (a.w_first_row + row) / a.scale_rows * a.w_scale_stride + column / a.scale_columns;
}

template <class T>
T element(const LinearArgs& a, Index row, Index column) {
  return static_cast<const T*>(a.w)[row * a.w_stride + column];
}

inline double code_value(const LinearArgs& a, Index row, Index column) {
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

inline double weight_scale(const LinearArgs& a, Index row, Index column) {
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

inline const float* input_row(const LinearArgs& a, Index i) {
  return a.x + (a.x_rows ? a.x_rows[i] : i) * a.x_stride;
}

// Products with Activations::kInt8, where rounds_to_int8 holds.
void linear_int8(const LinearArgs& args, Index n_begin, Index n_end);

}  // namespace hadal::kernels::ref
