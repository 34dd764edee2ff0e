// y = x W^T for float32 inputs and weights in F32, BF16, F16, E4M3, INT8 or packed INT4.
//
// One order of sums, for every instruction set and whatever the number of rows: lanes are outputs, so each output is a
// chain of its own. Over a block of K (128, or the group of an INT4 weight) it is the chain of fused multiply-adds with
// k ascending, from zero; the block's sum is multiplied by its scale and added to the running total with one more fused
// multiply-add, blocks ascending (rule 34). So one row and a thousand, AVX2 and AVX-512 give the same bits. With
// activations in BF16 on AVX512-BF16 a step of the chain is vdpbf16ps over two k; with INT8 the block's sum is an exact
// integer. Float32 activations that meet INT8 and INT4 weights on AVX512-VNNI become 23-bit integers, block by block of
// x, and the block's sum is exact too (cpu/avx512bf16/fixed_point.h); those that meet INT4 weights in AVX2 become
// 16-bit ones (cpu/avx2/fixed_point.h). `ref` sums in double and is the oracle.
#pragma once

#include <cstdint>

#include "hadal/core/dtype.h"
#include "hadal/core/numerics.h"
#include "hadal/core/view.h"
#include "hadal/kernels/layout.h"

namespace hadal::kernels {

struct LinearArgs {
  const float* x = nullptr;  // [m, k], or with x_rows: row i of the product is row x_rows[i] of x
  Index x_stride = 0;
  const Index* x_rows = nullptr;
  const float* x_scale = nullptr;  // [m, ceil(k / 128)], only with E4M3 weights: x holds codes' values, not yet scaled
  Index x_scale_stride = 0;
  Activations activations = Activations::kF32;  // how x is rounded here (kFp8 is x_scale's business)

  const void* w = nullptr;  // [n, k], rows of w_stride elements of w_dtype
  // Of rows in groups (group_rows), n and the first column of any piece are multiples of kGroupRows.
  Layout w_layout = Layout::kRows;
  DType w_dtype =
      DType::kF32;  // F32, BF16, F16, F8_E4M3, I8, or I32: eight 4-bit codes each, the first in the low bits
  Index w_stride = 0;
  // value = (code - zero) * scale[(w_first_row + row) / scale_rows][column / scale_columns]; see ops/weight.h.
  const void* w_scale = nullptr;
  DType w_scale_dtype = DType::kF32;  // INT4: also BF16 and F16
  Index w_scale_stride = 0;
  // Of w_scale and w_zero. In groups (group_grid) with w alone, and if each row has values of its own: then scale_rows
  // is 1, scale_columns at most 128, and w_first_row a multiple of kGroupRows.
  Layout w_scale_layout = Layout::kRows;
  Index scale_rows = 128;
  Index scale_columns = 128;             // at least 32 and a multiple of it unless one scale serves a whole row
  const std::uint8_t* w_zero = nullptr;  // INT4; nullptr: 8
  Index w_first_row = 0;
  std::uint8_t* w_clean = nullptr;  // E4M3: see ops/weight.h; byte i is for rows 32 i on, counted from w - w_first_row

  float* y = nullptr;  // [m, n]
  Index y_stride = 0;
  Index m = 0, n = 0, k = 0;
};

// Throws Error, naming both, if w lies in another layout than rows or `other`, or its scales in one that does not go
// with it: the wrong kernel on the wrong layout is never numbers.
void check_layout(const LinearArgs& args, Layout other = Layout::kRows);

namespace ref {
// Columns [n_begin, n_end) of y; sums in double. The oracle. Reads rows only.
void linear(const LinearArgs& args, Index n_begin, Index n_end);
// y[m, k] = x[m, n] W: the transposed product that absorbs W^UK into a query; x has w's rows as columns.
void linear_transposed(const LinearArgs& args, Index m_begin, Index m_end);
}  // namespace ref

// The fast kernels of one instruction set. x is packed once, tile by tile of rows, and then read by every piece of
// columns.
struct LinearKernels {
  // Bytes of packed x, and of a thread's scratch for `multiply`; both must be 64-byte aligned.
  Index (*packed_bytes)(const LinearArgs& args);
  Index (*scratch_bytes)(const LinearArgs& args);
  Index (*num_tiles)(const LinearArgs& args);
  // Whether x is rounded by blocks, so that pieces of k to pack are multiples of 128, not of 64.
  bool (*rounds_blocks)(const LinearArgs& args);
  // Tiles [tile_begin, tile_end), columns [k_begin, k_end) of x: k_begin such a multiple, k_end one too or k.
  void (*pack)(const LinearArgs& args, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed);
  // Columns [n_begin, n_end) of y. `next` is where this thread will go on reading (nullptr: right behind n_end).
  void (*multiply)(const LinearArgs& args, const void* packed, Index n_begin, Index n_end, const void* next,
                   void* scratch);
  Index piece_columns;            // pieces are best multiples of this,
  Index many_rows_piece_columns;  // and of this where there are many rows
  // y[m, k] = x[m, n] W, columns [k_begin, k_end) of y; k_begin is a multiple of 128. Reads rows only.
  void (*transposed)(const LinearArgs& args, Index k_begin, Index k_end);
  // Rows [n_begin, n_end) of w (rows without gaps, whole groups) in this table's grouped order to `to`, where row
  // n_begin's group begins; 64-byte aligned. Notes in w_clean where no NaN code was met.
  void (*group_rows)(const LinearArgs& args, Index n_begin, Index n_end, void* to);
  // The same rows, E4M3 or BF16, as the INT8 codes with which products of x rounded to int8 read them, in that grouped
  // order, and what the codes of a block are to be multiplied by, a grid [n, ceil(k / 128)] in groups too, to `scale`,
  // where row 0's group begins.
  void (*round_rows)(const LinearArgs& args, Index n_begin, Index n_end, void* to, float* scale);
  Layout groups;  // the order that group_rows makes, and that these kernels read beside rows
};

// The same for products whose x is rounded by blocks first.
struct RoundedKernels {
  Index (*packed_bytes)(const LinearArgs& args);
  Index (*scratch_bytes)(const LinearArgs& args);
  Index (*num_tiles)(const LinearArgs& args);
  void (*pack)(const LinearArgs& args, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed);
  void (*multiply)(const LinearArgs& args, const void* packed, Index n_begin, Index n_end, const void* next,
                   void* scratch);
  void (*round_rows)(const LinearArgs& args, Index n_begin, Index n_end, void* to, float* scale);
};

// F32 and F16 weights have no int8 form here; with them, activations stay as they are.
inline bool rounds_to_int8(const LinearArgs& a) {
  return a.activations == Activations::kInt8 && a.w_dtype != DType::kF32 && a.w_dtype != DType::kF16;
}

// What the instruction sets' kFixedPoint are for.
inline bool in_16_bits(const LinearArgs& a) {  // AVX2
  return a.activations == Activations::kF32 && a.w_dtype == DType::kI32;
}
inline bool in_23_bits(const LinearArgs& a) {  // AVX512-VNNI
  return a.activations == Activations::kF32 && (a.w_dtype == DType::kI8 || a.w_dtype == DType::kI32);
}

// The instruction set must be supported and not kRef. These tables see to args.activations, and throw Error for a
// layout that is not theirs.
const LinearKernels& linear_kernels(Isa isa);

namespace avx2 {
extern const LinearKernels kLinear;
extern const RoundedKernels kInt8, kFixedPoint;
}  // namespace avx2
namespace avx512 {
extern const LinearKernels kLinear;
extern const RoundedKernels kInt8;
}  // namespace avx512
namespace avx512bf16 {
extern const LinearKernels kLinear;
extern const RoundedKernels kInt8, kFixedPoint;
}  // namespace avx512bf16

}  // namespace hadal::kernels
