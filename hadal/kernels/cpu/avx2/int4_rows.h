// Rows of INT4 weights as they lie, for the transposed product in AVX2 (transposed_impl.h): kLanes dwords of a row are
// a strip of 64 columns, whose sum s belongs to columns 8 i + s. A few rows at a time, so that memory is read as a
// stream; their scales become float32 once for all strips. Sums wait in y, strip by strip in that order.
#pragma once

#include "hadal/kernels/cpu/transposed_impl.h"

namespace hadal::kernels::avx2 {
namespace {

constexpr Index kStripColumns = 8 * kLanes;
constexpr Index kRowsTogether = 16;
constexpr Index kMostGroups = 64;  // of 32 columns at least

// Scales, and zero points above 8, of rows that are worked on together, of kMostGroups groups of columns.
class RowGrids {
 public:
  HADAL_INLINE RowGrids(const LinearArgs& args, Index begin, Index end)
      : a(args), columns(args.scale_columns < args.k ? args.scale_columns : args.k), first(begin / columns) {
    count_ = (end - 1) / columns - first + 1;
  }

  HADAL_INLINE void read(Index j_begin, Index j_end) {
    for (Index j = j_begin; j < j_end; ++j) {
      const Index at = (a.w_first_row + j) * a.w_scale_stride + first;
      if (a.w_scale_dtype == DType::kF32)
        copy(static_cast<const float*>(a.w_scale) + at, j, scales[j - j_begin]);
      else if (a.w_scale_dtype == DType::kBF16)
        copy(static_cast<const bf16*>(a.w_scale) + at, j, scales[j - j_begin]);
      else
        copy(static_cast<const f16*>(a.w_scale) + at, j, scales[j - j_begin]);
      for (Index i = 0; i < count_ && a.w_zero; ++i)
        zeros[j - j_begin][i] = static_cast<float>(static_cast<int>(a.w_zero[at + i]) - 8);
    }
  }

  const LinearArgs& a;
  Index columns, first;
  float scales[kRowsTogether][kMostGroups], zeros[kRowsTogether][kMostGroups];

 private:
  template <class T>
  HADAL_INLINE void copy(const T* from, Index j, float* to) const {
    Index i = 0;
    for (; i + kLanes <= count_; i += kLanes) store(to + i, load_row(from + i));
    for (; i < count_; ++i) to[i] = scale_at(a, j, first + i);
  }
  Index count_;
};

HADAL_INLINE Vec halves(float low, float high) {
  return _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low));
}

template <int kStep, int kFirst, bool kHasZero, int R, int S>
HADAL_INLINE void add_codes(IVec v, Vec zero, const Vec (&x)[R], Vec (&acc)[R][S]) {
  const Vec row = as_float(Int4Weights<kHasZero>::template step<kStep>(v, zero));
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) acc[r][kStep - kFirst] = fma(x[r], row, acc[r][kStep - kFirst]);
  if constexpr (kStep + 1 < kFirst + S) add_codes<kStep + 1, kFirst, kHasZero>(v, zero, x, acc);
}

// Rows [j_begin, j_end) added to S sums from kFirst on of R rows of y, for the strip at column c.
template <int kFirst, int S, bool kHasZero, int R>
HADAL_INLINE void add_rows_to_strip(const LinearArgs& a, const Matrix& w, Index i, Index c, Index j_begin, Index j_end,
                                    const RowGrids& grids) {
  Vec acc[R][S];
  float* y = a.y + i * a.y_stride + c + kFirst * kLanes;
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) acc[r][s] = j_begin == 0 ? zero() : load(y + r * a.y_stride + s * kLanes);
  const Index low = c / grids.columns - grids.first, high = (c + kStripColumns / 2) / grids.columns - grids.first;
  const std::uint8_t* p = w.base + j_begin * w.row_bytes + c / 2;
  for (Index j = j_begin; j < j_end; ++j, p += w.row_bytes) {
    const float *scale = grids.scales[j - j_begin], *zeros = grids.zeros[j - j_begin];
    const Vec scales = halves(scale[low], scale[high]);
    Vec x[R];
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) x[r] = mul(broadcast(a.x[(i + r) * a.x_stride + j]), scales);
    __builtin_prefetch(p + kRowsTogether * w.row_bytes);
    add_codes<kFirst, kFirst, kHasZero>(load_dwords(p), kHasZero ? halves(zeros[low], zeros[high]) : zero(), x, acc);
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) store(y + r * a.y_stride + s * kLanes, acc[r][s]);
}

template <int R, bool kHasZero>
void add_int4_rows(const LinearArgs& a, const Matrix& w, Index i, Index begin, Index end) {
  RowGrids grids(a, begin, end);
  for (Index j = 0; j < a.n; j += kRowsTogether) {
    const Index j_end = j + kRowsTogether < a.n ? j + kRowsTogether : a.n;
    grids.read(j, j_end);
    for (Index c = begin; c < end; c += kStripColumns)
      if constexpr (R == 1) {
        add_rows_to_strip<0, 8, kHasZero, R>(a, w, i, c, j, j_end, grids);
      } else {  // whose sums would not all be in registers
        add_rows_to_strip<0, 4, kHasZero, R>(a, w, i, c, j, j_end, grids);
        add_rows_to_strip<4, 4, kHasZero, R>(a, w, i, c, j, j_end, grids);
      }
  }
  for (int r = 0; r < R; ++r)
    for (Index c = begin; c < end; c += kStripColumns) {
      float* y = a.y + (i + r) * a.y_stride + c;
      IVec sums[kLanes];
      for (int s = 0; s < kLanes; ++s) sums[s] = load_dwords(y + s * kLanes);
      transpose(sums);
      for (int s = 0; s < kLanes; ++s) store_dwords(y + s * kLanes, sums[s]);
    }
}

template <int R>
Index transposed_int4_strips(const LinearArgs& a, const Matrix& w, Index i, Index begin, Index end) {
  if (!a.w_scale || a.scale_rows != 1 || a.n == 0) return begin;
  constexpr Index kMost = kMostGroups * 32;
  for (end = begin + (end - begin) / kStripColumns * kStripColumns; begin < end;) {
    const Index stop = begin + kMost < end ? begin + kMost : end;
    if (a.w_zero)
      add_int4_rows<R, true>(a, w, i, begin, stop);
    else
      add_int4_rows<R, false>(a, w, i, begin, stop);
    begin = stop;
  }
  return begin;
}

}  // namespace
}  // namespace hadal::kernels::avx2
