// A parameter as it is stored: a vector [D], or a matrix [N, K] whose rows are outputs. Quantised matrices stay as they
// are in memory and carry a grid of scales:
//
//   value(r, c) = (code(r, c) - zero) * scale[(first_row + r) / scale_rows][c / scale_columns]
//
//   format            codes                                scale_rows x scale_columns
//   FP8               E4M3 [N, K]                          128 x 128 (rule 29), grid sizes rounded up (rule 30)
//   INT8, blocks      I8 [N, K]                            128 x 128
//   INT8, channels    I8 [N, K]                            1 x K
//   INT4              I32 [N, ceil(K / 8)], eight codes    1 x group (32, 64 or 128); zero is 8 unless `zero` says
//   otherwise
//                     each, the first in the low bits
//
// Whether a matrix is quantised is decided by whether it has a scale, not by a list of names (rule 36).
#pragma once

#include <cstdint>

#include "hadal/core/tensor.h"
#include "hadal/kernels/layout.h"

namespace hadal::ops {

inline constexpr Index kBlock =
    128;  // side of a scale block, and the K extent over which FP8 products are summed first

inline constexpr Index kCleanRows = 32;
using kernels::kGroupRows;  // whole multiples of it are whole groups of every Layout
using kernels::Layout;
using kernels::layout_name;

constexpr Index num_blocks(Index n, Index block = kBlock) {
  return (n + block - 1) / block;
}

// The values of a matrix in another order, as kernels like to read them: the same dtype and shape, the same size.
struct PackedForm {
  ConstTensorRef values;
  Layout layout = Layout::kRows;
  // Scales that belong to single rows, and zero points, in that order too, with the dtype and shape of the grid of the
  // whole matrix; empty: those of the Weight serve.
  ConstTensorRef scale = {}, zero = {};
  explicit operator bool() const { return static_cast<bool>(values); }
};

// What a parameter is, and the forms in which its values are in memory: row by row, packed, or both. Whoever computes
// takes the form that its back end reads.
struct Weight {
  // The rows form: F32, BF16, F16, F8_E4M3, I8 or I32 (packed INT4); F64 where gradients are computed in double.
  ConstTensorRef values;
  // The grid: F32, for INT4 also BF16 or F16 as stored. Empty for F32, BF16 and F16 values, and where the packed form
  // has it and there is no other.
  ConstTensorRef scale = {};
  ConstTensorRef zero = {};  // INT4 only: U8, the same grid as `scale`; empty: 8 everywhere
  Index scale_rows = kBlock;
  Index scale_columns = kBlock;
  Index packed_columns = 0;  // K of an INT4 matrix
  Index first_row = 0;       // of the values within the scale grid: a slice of rows need not start at a block
  // FP8: a byte for every kCleanRows rows of the whole matrix, set by whoever has read them and met no NaN code, so
  // that nobody needs to look again. Null: look every time.
  std::uint8_t* clean = nullptr;
  // Can be cut at whole multiples of kGroupRows, where its addresses are those of the rows form.
  PackedForm packed = {};
  // While training: where gradients are added up, of the dtype and shape of `values` (F32, or F64 for exact gradients).
  TensorRef grad = {};
  // While training with values in BF16: what they are rounded from, F32.
  ConstTensorRef master = {};

  explicit operator bool() const { return values || packed; }
  DType dtype() const { return any_form().dtype(); }
  const Shape& shape() const { return any_form().shape(); }  // of the values as stored: eight INT4 columns are one
  int rank() const { return shape().rank(); }
  bool is_int4() const { return dtype() == DType::kI32; }
  Index num_rows() const { return shape()[0]; }
  Index num_columns() const { return is_int4() ? packed_columns : shape()[1]; }
  // One of the forms, for what they have in common.
  const ConstTensorRef& any_form() const { return values ? values : packed.values; }
  const ConstTensorRef& any_scale() const { return scale ? scale : packed.scale; }
  const ConstTensorRef& any_zero() const { return zero ? zero : packed.zero; }

  // Rows [begin, end) as a weight of their own, in the forms that can be cut there. No copy.
  Weight rows(Index begin, Index end) const {
    const bool whole_groups = begin % kGroupRows == 0 && end % kGroupRows == 0;
    HADAL_CHECK(values || whole_groups, "weight: rows {} to {} cut a group", begin, end);
    Weight part = *this;
    if (values) part.values = values.rows(begin, end);
    if (packed && whole_groups)
      part.packed.values = packed.values.rows(begin, end);
    else
      part.packed = {};
    part.first_row = first_row + begin;
    if (grad) part.grad = grad.rows(begin, end);
    if (master) part.master = master.rows(begin, end);
    return part;
  }

  // All tensors that are there: f(tensor).
  template <class F>
  void for_each_tensor(F&& f) {
    for (ConstTensorRef* tensor : {&values, &scale, &zero, &packed.values, &packed.scale, &packed.zero})
      if (*tensor) f(*tensor);
  }
};

}  // namespace hadal::ops
