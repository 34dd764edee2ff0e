// y[m, k] = x[m, n] W, the product that absorbs W^UK into a query: lanes are the columns of a row of W as they lie in
// memory, each output is a chain over the rows. The scale of a row's block is multiplied into x. Included like
// linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/linear_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

// kLanes weights of row j from column c on, before their scale; a short row is read through a copy.
HADAL_INLINE Vec row_vector(const LinearArgs& a, const Matrix& w, Index j, Index c) {
  const Index bits = bits_of(a.w_dtype);
  const std::uint8_t* p = w.base + j * w.row_bytes + c * bits / 8;
  alignas(64) std::uint8_t tail[kLanes * 4] = {};
  if (c + kLanes > a.k) {
    for (Index i = 0; i < w.used_bytes - c * bits / 8; ++i) tail[i] = p[i];
    p = tail;
  }
  switch (a.w_dtype) {
    case DType::kF32:
      return load_row(reinterpret_cast<const float*>(p));
    case DType::kBF16:
      return load_row(reinterpret_cast<const bf16*>(p));
    case DType::kF16:
      return load_row(reinterpret_cast<const f16*>(p));
    case DType::kI8:
      return load_row(reinterpret_cast<const std::int8_t*>(p));
    case DType::kI32: {
      const Index at = (a.w_first_row + j) / a.scale_rows * a.w_scale_stride + c / a.scale_columns;
      return sub(to_float(load_row_nibbles(p)), broadcast(a.w_zero ? a.w_zero[at] : 8.0f));
    }
    default: {
      const IVec codes = load_row_bytes(p);
      const IVec bits8 = bit_and(right_signed<4>(left<24>(codes)), all_dwords(0x87F00000u));
      return poison(mul(as_float(bits8), broadcast(0x1p120f)), bit_and(codes, all_dwords(0x7F)));
    }
  }
}

HADAL_INLINE float scaled_input(const LinearArgs& a, Index i, Index j, Index c) {
  const float x = a.x[i * a.x_stride + j];
  return a.w_scale ? x * scale_at(a, j, a.scale_columns >= a.k ? 0 : c / a.scale_columns) : x;
}

template <int R, int V>
HADAL_INLINE void transposed_block(const LinearArgs& a, const Matrix& w, Index i, Index c) {
  Vec acc[R][V];
  for (auto& r : acc)
    for (Vec& v : r) v = zero();
  for (Index j = 0; j < a.n; ++j) {
    Vec x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = broadcast(scaled_input(a, i + r, j, c));
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Vec row = row_vector(a, w, j, c + v * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][v] = fma(x[r], row, acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      float* to = a.y + (i + r) * a.y_stride + c + v * kLanes;
      const Index room = a.k - c - v * kLanes;
      if (room >= kLanes)
        store(to, acc[r][v]);
      else
        store_first(to, acc[r][v], room);
    }
}

template <int R>
HADAL_INLINE void transposed_rows(const LinearArgs& a, const Matrix& w, Index i, Index begin, Index end) {
  Index c = begin;
  // Two vectors share a scale: they lie in one block of at least 32 columns.
  for (; c % (2 * kLanes) == 0 && c + 2 * kLanes <= end; c += 2 * kLanes) transposed_block<R, 2>(a, w, i, c);
  for (; c < end; c += kLanes) transposed_block<R, 1>(a, w, i, c);
}

// [k_begin, k_end) begins at a multiple of 32.
void transposed(const LinearArgs& a, Index k_begin, Index k_end) {
  const Matrix w{a};
  Index i = 0;
  for (; i + 4 <= a.m; i += 4) transposed_rows<4>(a, w, i, k_begin, k_end);
  for (; i < a.m; ++i) transposed_rows<1>(a, w, i, k_begin, k_end);
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
