// Products with the rows of a matrix that belong to heads: W^UK and W^UV are cut out of kv_b_proj.
#pragma once

#include <cstddef>

#include "hadal/kernels/linear.h"

namespace hadal::kernels {

// The same product for each of several heads: x, y and the rows of w that far apart.
struct HeadsArgs {
  LinearArgs first;
  Index heads = 0;
  Index x_stride = 0, y_stride = 0;  // floats
  Index w_rows = 0;
};

// The bytes of rows from `row` on.
inline const void* weight_row(const LinearArgs& a, Index row) {
  const Index bits = a.w_dtype == DType::kI32 ? 32 : static_cast<Index>(dtype_bytes(a.w_dtype)) * 8;
  return static_cast<const std::byte*>(a.w) + row * a.w_stride * bits / 8;
}

inline LinearArgs head_args(const HeadsArgs& a, Index head) {
  LinearArgs one = a.first;
  one.x += head * a.x_stride;
  one.y += head * a.y_stride;
  one.w = weight_row(a.first, head * a.w_rows);
  one.w_first_row += head * a.w_rows;
  return one;
}

}  // namespace hadal::kernels
