// y = x W^T, AVX2. Per output: one accumulator of eight lanes along K, E4M3 sums scaled every 128, lanes added at the
// end. Bytes: the weights once per call (m <= 3) or once per panel; flops: 2 m n k. Few rows are bound by memory, many
// by FMA. Few rows read the stored weights directly; with more, a panel of weight rows is decoded to float32 once and
// stays in the L2 cache while tiles of 3 x 4 outputs pass over it. Both orders of loops give the same sequence of
// operations per output.
#include "hadal/kernels/linear.h"

#include "hadal/kernels/cpu/avx2/vec.h"

namespace hadal::kernels::avx2 {
namespace {

constexpr Index kScaleBlock = 128;
constexpr Index kPanelBytes = 128 * 1024;
constexpr Index kDirectRows = 3;  // up to here the stored weights are read directly

constexpr bool is_scaled(DType d) {
  return d == DType::kF8E4M3;
}

HADAL_INLINE Index padded(Index k) {
  return (k + kLanes - 1) / kLanes * kLanes;
}

HADAL_INLINE Index panel_rows(Index k) {
  const Index rows = kPanelBytes / (padded(k) * static_cast<Index>(sizeof(float)) + 1) / 4 * 4;
  return rows < 4 ? 4 : rows > 64 ? 64 : rows;
}

template <class T>
HADAL_INLINE const T* weight_row(const LinearArgs& a, Index row) {
  return static_cast<const T*>(a.w) + row * a.w_stride;
}

// What the sum over one block of 128 is multiplied by for output (row i of x, row j of w).
HADAL_INLINE float block_factor(const LinearArgs& a, Index i, Index j, Index block) {
  const float w = static_cast<const float*>(a.w_scale)[(a.w_first_row + j) / kScaleBlock * a.w_scale_stride + block];
  return (a.x_scale ? a.x_scale[i * a.x_scale_stride + block] * w : w) * kE4m3Unit;
}

// A source of weights for a tile: row r of the tile, columns from c.
template <class T>
struct Stored {
  const T* row[8];
  HADAL_INLINE void get2(int r, Index c, Vec& low, Vec& high) const { load2(row[r] + c, low, high); }
  HADAL_INLINE Vec get(int r, Index c) const { return load(row[r] + c); }
  HADAL_INLINE Vec get_tail(int r, Index c, Index count) const { return load_weight_tail(row[r] + c, count); }
};
struct Panel {
  const float* base;
  Index stride;
  HADAL_INLINE void get2(int r, Index c, Vec& low, Vec& high) const {
    low = get(r, c);
    high = get(r, c + kLanes);
  }
  HADAL_INLINE Vec get(int r, Index c) const { return _mm256_loadu_ps(base + r * stride + c); }
  HADAL_INLINE Vec get_tail(int r, Index c, Index) const { return get(r, c); }  // padded with zeros
};

// Adds the products of columns [begin, end) to acc.
template <int MR, int NR, class Source>
HADAL_INLINE void accumulate(const LinearArgs& a, Index i, const Source& w, Index begin, Index end,
                             Vec (&acc)[MR][NR]) {
  const float* x[MR];
  for (int m = 0; m < MR; ++m) x[m] = a.x + (i + m) * a.x_stride;
  Index c = begin;
  for (; c + 2 * kLanes <= end; c += 2 * kLanes) {
    Vec low[MR], high[MR];
    for (int m = 0; m < MR; ++m) low[m] = _mm256_loadu_ps(x[m] + c), high[m] = _mm256_loadu_ps(x[m] + c + kLanes);
    for (int n = 0; n < NR; ++n) {
      Vec w_low, w_high;
      w.get2(n, c, w_low, w_high);
      for (int m = 0; m < MR; ++m)
        acc[m][n] = _mm256_fmadd_ps(high[m], w_high, _mm256_fmadd_ps(low[m], w_low, acc[m][n]));
    }
  }
  for (; c + kLanes <= end; c += kLanes)
    for (int n = 0; n < NR; ++n)
      for (int m = 0; m < MR; ++m) acc[m][n] = _mm256_fmadd_ps(_mm256_loadu_ps(x[m] + c), w.get(n, c), acc[m][n]);
  if (c < end)
    for (int n = 0; n < NR; ++n)
      for (int m = 0; m < MR; ++m)
        acc[m][n] = _mm256_fmadd_ps(load_tail(x[m] + c, end - c), w.get_tail(n, c, end - c), acc[m][n]);
}

template <bool kScaled, int MR, int NR, class Source>
HADAL_INLINE void tile(const LinearArgs& a, Index i, Index j, const Source& w) {
  Vec total[MR][NR];
  for (auto& row : total)
    for (Vec& t : row) t = _mm256_setzero_ps();
  if constexpr (kScaled) {
    for (Index begin = 0, block = 0; begin < a.k; begin += kScaleBlock, ++block) {
      Vec acc[MR][NR];
      for (auto& row : acc)
        for (Vec& t : row) t = _mm256_setzero_ps();
      const Index end = begin + kScaleBlock < a.k ? begin + kScaleBlock : a.k;
      accumulate<MR, NR>(a, i, w, begin, end, acc);
      for (int m = 0; m < MR; ++m)
        for (int n = 0; n < NR; ++n)
          total[m][n] = _mm256_fmadd_ps(acc[m][n], _mm256_set1_ps(block_factor(a, i + m, j + n, block)), total[m][n]);
    }
  } else {
    accumulate<MR, NR>(a, i, w, 0, a.k, total);
  }
  for (int m = 0; m < MR; ++m)
    for (int n = 0; n < NR; ++n) a.y[(i + m) * a.y_stride + j + n] = sum_lanes(total[m][n]);
}

template <class T, int MR, int NR>
HADAL_INLINE void stored_tile(const LinearArgs& a, Index i, Index j) {
  Stored<T> w;
  for (int n = 0; n < NR; ++n) w.row[n] = weight_row<T>(a, j + n);
  tile<is_scaled(DTypeOf<T>::value), MR, NR>(a, i, j, w);
}

template <class T, int MR, int NR>
void direct_rows(const LinearArgs& a, Index i, Index n_begin, Index n_end) {
  Index j = n_begin;
  for (; j + NR <= n_end; j += NR) stored_tile<T, MR, NR>(a, i, j);
  for (; j < n_end; ++j) stored_tile<T, MR, 1>(a, i, j);
}

template <class T>
void decode_panel(const LinearArgs& a, Index j, Index rows, float* panel) {
  const Index stride = padded(a.k);
  for (Index r = 0; r < rows; ++r) {
    const T* w = weight_row<T>(a, j + r);
    float* to = panel + r * stride;
    Index c = 0;
    for (; c + 2 * kLanes <= a.k; c += 2 * kLanes) {
      Vec low, high;
      load2(w + c, low, high);
      _mm256_storeu_ps(to + c, low);
      _mm256_storeu_ps(to + c + kLanes, high);
    }
    for (; c + kLanes <= a.k; c += kLanes) _mm256_storeu_ps(to + c, load(w + c));
    if (c < a.k) _mm256_storeu_ps(to + c, load_weight_tail(w + c, a.k - c));
  }
}

template <bool kScaled, int MR>
HADAL_INLINE void panel_tiles(const LinearArgs& a, Index i, Index j, Index rows, const float* panel) {
  const Index stride = padded(a.k);
  Index r = 0;
  for (; r + 4 <= rows; r += 4) tile<kScaled, MR, 4>(a, i, j + r, Panel{panel + r * stride, stride});
  for (; r < rows; ++r) tile<kScaled, MR, 1>(a, i, j + r, Panel{panel + r * stride, stride});
}

template <class T>
void through_panels(const LinearArgs& a, Index n_begin, Index n_end, float* panel) {
  constexpr bool kScaled = is_scaled(DTypeOf<T>::value);
  const Index height = panel_rows(a.k);
  for (Index j = n_begin; j < n_end; j += height) {
    const Index rows = j + height < n_end ? height : n_end - j;
    decode_panel<T>(a, j, rows, panel);
    Index i = 0;
    for (; i + 3 <= a.m; i += 3) panel_tiles<kScaled, 3>(a, i, j, rows, panel);
    for (; i < a.m; ++i) panel_tiles<kScaled, 1>(a, i, j, rows, panel);
  }
}

template <class T>
void linear_of(const LinearArgs& a, Index n_begin, Index n_end, float* panel) {
  switch (a.m) {
    case 0:
      return;
    case 1:
      return direct_rows<T, 1, 8>(a, 0, n_begin, n_end);
    case 2:
      return direct_rows<T, 2, 4>(a, 0, n_begin, n_end);
    case kDirectRows:
      return direct_rows<T, 3, 4>(a, 0, n_begin, n_end);
    default:
      return through_panels<T>(a, n_begin, n_end, panel);
  }
}

// y[i, c .. c + 8 * kVecs) += x[i, j] * w[j, ...], row by row of w. The factor of an E4M3 row is folded into x.
template <class T, int kVecs>
HADAL_INLINE void transposed_columns(const LinearArgs& a, Index i, Index c) {
  Vec acc[kVecs];
  for (Vec& v : acc) v = _mm256_setzero_ps();
  for (Index j = 0; j < a.n; ++j) {
    float x = a.x[i * a.x_stride + j];
    if constexpr (is_scaled(DTypeOf<T>::value)) x *= block_factor(a, i, j, c / kScaleBlock);
    const Vec factor = _mm256_set1_ps(x);
    const T* w = weight_row<T>(a, j) + c;
    for (int v = 0; v < kVecs; ++v) acc[v] = _mm256_fmadd_ps(factor, load(w + v * kLanes), acc[v]);
  }
  for (int v = 0; v < kVecs; ++v) _mm256_storeu_ps(a.y + i * a.y_stride + c + v * kLanes, acc[v]);
}

template <class T>
HADAL_INLINE void transposed_tail(const LinearArgs& a, Index i, Index c, Index count) {
  Vec acc = _mm256_setzero_ps();
  for (Index j = 0; j < a.n; ++j) {
    float x = a.x[i * a.x_stride + j];
    if constexpr (is_scaled(DTypeOf<T>::value)) x *= block_factor(a, i, j, c / kScaleBlock);
    acc = _mm256_fmadd_ps(_mm256_set1_ps(x), load_weight_tail(weight_row<T>(a, j) + c, count), acc);
  }
  store_tail(a.y + i * a.y_stride + c, count, acc);
}

template <class T>
void transposed_of(const LinearArgs& a, Index m_begin, Index m_end) {
  for (Index i = m_begin; i < m_end; ++i) {
    Index c = 0;
    for (; c + 8 * kLanes <= a.k; c += 8 * kLanes) transposed_columns<T, 8>(a, i, c);
    for (; c + kLanes <= a.k; c += kLanes) transposed_columns<T, 1>(a, i, c);
    if (c < a.k) transposed_tail<T>(a, i, c, a.k - c);
  }
}

}  // namespace

Index linear_panel_floats(Index k) {
  return panel_rows(k) * padded(k);
}

void linear(const LinearArgs& a, Index n_begin, Index n_end, float* panel) {
  switch (a.w_dtype) {
    case DType::kF32:
      return linear_of<float>(a, n_begin, n_end, panel);
    case DType::kBF16:
      return linear_of<bf16>(a, n_begin, n_end, panel);
    case DType::kF16:
      return linear_of<f16>(a, n_begin, n_end, panel);
    default:
      return linear_of<e4m3>(a, n_begin, n_end, panel);
  }
}

void linear_transposed(const LinearArgs& a, Index m_begin, Index m_end) {
  switch (a.w_dtype) {
    case DType::kF32:
      return transposed_of<float>(a, m_begin, m_end);
    case DType::kBF16:
      return transposed_of<bf16>(a, m_begin, m_end);
    case DType::kF16:
      return transposed_of<f16>(a, m_begin, m_end);
    default:
      return transposed_of<e4m3>(a, m_begin, m_end);
  }
}

}  // namespace hadal::kernels::avx2
