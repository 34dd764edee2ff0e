// y[m, k] = x[m, n] W, the product that absorbs W^UK into a query: lanes are the columns of a row of W as they lie in
// memory, each output is a chain over the rows. The scale of a row's block is multiplied into x. Included like
// linear_impl.h.
#pragma once

#include <type_traits>

#include "hadal/kernels/cpu/linear_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

// E4M3 codes as value * 2^-120; x carries 2^60 and the sums get the other 2^60. NaN codes are found in `codes`.
constexpr float unit_of(DType dtype) {
  return dtype == DType::kF8E4M3 ? F32Step::kE4m3Unit : 1.0f;
}

// kLanes weights of row j from column c on, before their scale; a short row is read through a copy.
template <DType kType>
HADAL_INLINE Vec row_vector(const LinearArgs& a, const Matrix& w, Index j, Index c, IVec& codes) {
  constexpr Index kBits = bits_of(kType);
  const std::uint8_t* p = w.base + j * w.row_bytes + c * kBits / 8;
  alignas(64) std::uint8_t tail[kLanes * 4];
  if (c + kLanes > a.k) {
    for (std::uint8_t& byte : tail) byte = 0;
    for (Index i = 0; i < w.used_bytes - c * kBits / 8; ++i) tail[i] = p[i];
    p = tail;
  }
  if constexpr (kType == DType::kF32) return load_row(reinterpret_cast<const float*>(p));
  if constexpr (kType == DType::kBF16) return load_row(reinterpret_cast<const bf16*>(p));
  if constexpr (kType == DType::kF16) return load_row(reinterpret_cast<const f16*>(p));
  if constexpr (kType == DType::kI8) return load_row(reinterpret_cast<const std::int8_t*>(p));
  if constexpr (kType == DType::kI32) {
    const Index at = (a.w_first_row + j) / a.scale_rows * a.w_scale_stride + c / a.scale_columns;
    return sub(to_float(load_row_nibbles(p)), broadcast(a.w_zero ? a.w_zero[at] : 8.0f));
  }
  const IVec v = load_row_signed_bytes(p);
  codes = max_bytes(codes, bit_and(v, all_dwords(0x7F)));
  return as_float(bit_and(left<20>(v), all_dwords(0x87F00000u)));
}

// The scale of column c, row by row; rows of one block share it.
template <DType kType>
struct RowScale {
  const LinearArgs& a;
  Index group;
  Index until = 0;  // the row it changes at
  float value = 1;

  HADAL_INLINE RowScale(const LinearArgs& args, Index c)
      : a(args), group(!args.w_scale || args.scale_columns >= args.k ? 0 : c / args.scale_columns) {}
  HADAL_INLINE void move_to(Index j) {
    if (!a.w_scale || j < until) return;
    value = scale_at(a, j, group) * unit_of(kType);
    until = ((a.w_first_row + j) / a.scale_rows + 1) * a.scale_rows - a.w_first_row;
  }
};

// Rows [j_begin, j_end) added to R rows of y, V vectors from column c on; the first rows begin with zero.
template <DType kType, int R, int V>
HADAL_INLINE void transposed_block(const LinearArgs& a, const Matrix& w, Index i, Index c, Index j_begin, Index j_end) {
  Vec acc[R][V];
  IVec codes[V];
  const Index room = a.k - c;  // only a single vector may be a short one
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      const float* from = a.y + (i + r) * a.y_stride + c + v * kLanes;
      acc[r][v] = j_begin == 0 ? zero() : room >= kLanes ? load(from) : load_first(from, room);
    }
  for (IVec& v : codes) v = all_dwords(0);
  RowScale<kType> scale(a, c);
  for (Index j = j_begin; j < j_end; ++j) {
    scale.move_to(j);
    Vec x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = broadcast(a.x[(i + r) * a.x_stride + j] * scale.value);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Vec row = row_vector<kType>(a, w, j, c + v * kLanes, codes[v]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][v] = fma(x[r], row, acc[r][v]);
    }
  }
  const float unit = j_end == a.n ? unit_of(kType) : 1.0f;
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      float* to = a.y + (i + r) * a.y_stride + c + v * kLanes;
      Vec y = acc[r][v];
      if constexpr (kType == DType::kF8E4M3) y = poison(mul(y, broadcast(unit)), codes[v]);
      if (room >= kLanes)
        store(to, y);
      else
        store_first(to, y, room);
    }
}

// Weights of one byte: kLanes dwords of a row at a time, decoded as for the other product. Sum s of a vector then
// belongs to its columns 4 i + s. R rows of y, V such vectors from column c on.
template <DType kType, class Weights, int R, int V>
void transposed_strip(const LinearArgs& a, const Matrix& w, Index i, Index c) {
  Vec acc[R][V][4];
  IVec codes[V];
  for (auto& of_row : acc)
    for (auto& of_vector : of_row)
      for (Vec& sum : of_vector) sum = zero();
  for (IVec& v : codes) v = all_dwords(0);
  RowScale<kType> scale(a, c);
  const std::uint8_t* p = w.base + c;
  for (Index j = 0; j < a.n; ++j, p += w.row_bytes) {
    scale.move_to(j);
    Vec x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = broadcast(a.x[(i + r) * a.x_stride + j] * scale.value);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const IVec dword = load_dwords(p + v * kChunkBytes);
      __builtin_prefetch(p + (V + v) * kChunkBytes);  // of the next strip
      if constexpr (Weights::kHasNan) codes[v] = max_bytes(codes[v], bit_and(dword, all_dwords(0x7F7F7F7Fu)));
      IVec row[4];
      decode<Weights>(dword, zero(), row);
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) acc[r][v][s] = fma(x[r], as_float(row[s]), acc[r][v][s]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      if constexpr (Weights::kHasNan)
        for (int s = 0; s < 4; ++s)
          acc[r][v][s] =
              poison(mul(acc[r][v][s], broadcast(unit_of(kType))), bit_and(codes[v], all_dwords(0xFFu << 8 * s)));
      store_interleaved(a.y + (i + r) * a.y_stride + c + v * kChunkBytes, acc[r][v]);
    }
}

// The same for INT4, in AVX2 (avx2/int4_rows.h).
template <int R>
Index transposed_int4_strips(const LinearArgs& a, const Matrix& w, Index i, Index begin, Index end);

// As many columns of [begin, end) as make whole strips; returns where they end.
template <DType kType, int R>
Index transposed_strips(const LinearArgs& a, const Matrix& w, Index i, Index begin, Index end) {
  if constexpr (kType == DType::kF8E4M3 || kType == DType::kI8) {
    using Weights = std::conditional_t<kType == DType::kI8, Int8Weights, E4m3Weights>;
    constexpr int V = R == 1 ? 2 : 1;
    constexpr Index kColumns = V * kChunkBytes;
    // Columns of a strip share their scales.
    if (a.w_scale && a.scale_columns < a.k && a.scale_columns % kColumns != 0) return begin;
    for (; begin + kColumns <= end; begin += kColumns) transposed_strip<kType, Weights, R, V>(a, w, i, begin);
  }
  if constexpr (kType == DType::kI32 && kLanes == 8) return transposed_int4_strips<R>(a, w, i, begin, end);
  return begin;
}

template <DType kType, int R>
HADAL_INLINE void transposed_rows(const LinearArgs& a, const Matrix& w, Index i, Index begin, Index end) {
  begin = transposed_strips<kType, R>(a, w, i, begin, end);
  // Vectors that share a scale go together: those of one group of columns.
  constexpr int kMany = R == 1 ? 8 : 4;
  const Index group = a.w_scale && a.scale_columns < a.k ? a.scale_columns : end;
  const bool many = group == end || group % (kMany * kLanes) == 0;
  // A few rows at a time, so that memory is read as a stream.
  constexpr Index kRows = 16;
  for (Index j = 0; j < a.n; j += kRows) {
    const Index j_end = j + kRows < a.n ? j + kRows : a.n;
    Index c = begin;
    for (; many && c + kMany * kLanes <= end; c += kMany * kLanes)
      transposed_block<kType, R, kMany>(a, w, i, c, j, j_end);
    for (; c < end; c += kLanes) transposed_block<kType, R, 1>(a, w, i, c, j, j_end);
  }
}

template <DType kType>
void transposed_as(const LinearArgs& a, Index k_begin, Index k_end) {
  const Matrix w{a};
  Index i = 0;
  constexpr int kRows = kLanes == 16 ? 4 : 2;  // whose sums fit into the registers
  for (; i + kRows <= a.m; i += kRows) transposed_rows<kType, kRows>(a, w, i, k_begin, k_end);
  for (; i < a.m; ++i) transposed_rows<kType, 1>(a, w, i, k_begin, k_end);
}

// k_begin is a multiple of 128.
void transposed(const LinearArgs& a, Index k_begin, Index k_end) {
  switch (a.w_dtype) {
    case DType::kF32:
      return transposed_as<DType::kF32>(a, k_begin, k_end);
    case DType::kBF16:
      return transposed_as<DType::kBF16>(a, k_begin, k_end);
    case DType::kF16:
      return transposed_as<DType::kF16>(a, k_begin, k_end);
    case DType::kI8:
      return transposed_as<DType::kI8>(a, k_begin, k_end);
    case DType::kI32:
      return transposed_as<DType::kI32>(a, k_begin, k_end);
    default:
      return transposed_as<DType::kF8E4M3>(a, k_begin, k_end);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
