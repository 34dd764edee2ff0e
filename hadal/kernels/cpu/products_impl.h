// Products of float32 matrices in any orientation (training.h), written once for every instruction set; included like
// linear_impl.h. Sums have the order of linear.h: over 128 of k a chain of fused multiply-adds, k ascending, then the
// sums of these blocks, ascending; so a forward product has the bits of `linear`.
//
// A piece is some rows of y by some columns. Of both factors it packs a block of k at a time for itself: tiles of
// kTileRows rows of a, panels of kPanelGroups vectors of columns of b. A panel stays in the L1 cache while all tiles
// meet it; tiles and the sums so far are in the L2 cache.
#pragma once

#include "hadal/core/number_formats.h"
#include "hadal/kernels/cpu/products.h"
#include "hadal/kernels/cpu/tiles.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr Index kBlock = 128;
constexpr Index kPanel = kPanelGroups * kLanes;
constexpr Index kPieceColumns = 256;  // at most, and rows:
constexpr Index kPieceRows = 192;
constexpr Index kLinesAhead = 8;  // of a factor that is copied, asked for
// Off the power of two, so that tiles and panels that are filled together do not share cache sets.
constexpr Index kTileStride = kBlock * kTileRows + 16, kPanelStride = kBlock * kPanel + 16;
static_assert(kPieceRows % kTileRows == 0 && kPieceColumns % kPanel == 0);

using ProductF32 = Product<float>;

// Values as a factor is packed: as they are, or rounded to BF16.
template <bool kToBf16>
HADAL_INLINE Vec as_factor(Vec v) {
  return kToBf16 ? round_to_bf16(v) : v;
}

// kRows lines of `columns` floats, transposed: to[c * stride + line]. Whole vectors are stored; with a stride below
// kLanes the next column overwrites what is too much. line(i) is where line i begins; those behind kRows are asked for.
template <bool kToBf16, int kRows, class Line>
HADAL_INLINE void pack_across(const Line& line, Index columns, float* to, Index stride) {
  const float* from[kRows];
  const float* next[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) from[i] = line(i), next[i] = line(kRows + i);
  Index c = 0;
  for (; c + kLanes <= columns; c += kLanes) {
    // Lines may lie too far apart for a machine to see by itself which ones come next.
    if (c % 16 == 0)
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) __builtin_prefetch(next[i] + c);
    IVec r[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      r[i] = i < kRows ? as_int(as_factor<kToBf16>(load(from[i < kRows ? i : 0] + c))) : all_dwords(0);
    transpose(r);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) store(to + (c + j) * stride, as_float(r[j]));
  }
  if (c == columns) return;
  IVec r[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    r[i] = i < kRows ? as_int(as_factor<kToBf16>(load_first(from[i < kRows ? i : 0] + c, columns - c))) : all_dwords(0);
  transpose(r);
  for (Index j = 0; j < columns - c; ++j) store(to + (c + j) * stride, as_float(r[j]));
}
// The same of the few lines that are left at an edge, zeros behind them.
template <bool kToBf16, class Line>
HADAL_INLINE void pack_edge_across(const Line& line, Index lines, Index columns, float* to, Index stride, int width) {
  for (int i = 0; i < width; ++i) {
    const float* from = i < lines ? line(i) : nullptr;
    for (Index c = 0; c < columns; ++c)
      to[c * stride + i] = !from ? 0 : kToBf16 ? bf16_to_float(float_to_bf16(from[c])) : from[c];
  }
}

// Rows [begin, end) of a, of `depth` columns from k on: tiles [k][kTileRows], zeros behind the last row.
template <bool kToBf16>
HADAL_INLINE void pack_tiles(const ProductF32& p, Index begin, Index end, Index k, Index depth, float* to) {
  const Index rows = end - begin, whole = rows / kTileRows * kTileRows;
  if (p.a_row != 1) {
    const auto lines_from = [&](Index first) {
      return [&p, first, k](int i)
                 __attribute__((always_inline)) { return p.a_line(first + i < p.m ? first + i : p.m - 1) + k; };
    };
    for (Index i = 0; i < whole; i += kTileRows, to += kTileStride)
      pack_across<kToBf16, kTileRows>(lines_from(begin + i), depth, to, kTileRows);
    if (whole < rows)
      pack_edge_across<kToBf16>(lines_from(begin + whole), rows - whole, depth, to, kTileRows, kTileRows);
    return;
  }
  // Vectors reach beyond a tile; what they read must still be a row of a.
  const Index safe = p.m - begin >= rows + kLanes - kTileRows ? whole : whole >= kTileRows ? whole - kTileRows : 0;
  for (Index i = 0; i < depth; ++i, to += kTileRows) {
    const float* from = p.a_line(k + i) + begin;
    const float* later = p.a_line(k + i + kLinesAhead < p.k ? k + i + kLinesAhead : p.k - 1) + begin;
    float* tile = to;
    Index row = 0;
    for (Index line = 0; line < rows; line += 16) __builtin_prefetch(later + line);
    for (; row < safe; row += kTileRows, tile += kTileStride) store(tile, as_factor<kToBf16>(load(from + row)));
    for (; row < rows; row += kTileRows, tile += kTileStride) {
      const Index left = rows - row < kTileRows ? rows - row : kTileRows;
      store(tile, as_factor<kToBf16>(load_first(from + row, left)));
    }
  }
}

// Columns [begin, end) of b, of `depth` rows from k on: panels [k][kPanel], zeros behind the last column.
template <bool kToBf16>
HADAL_INLINE void pack_panels(const ProductF32& p, Index begin, Index end, Index k, Index depth, float* to) {
  const Index columns = end - begin;
  if (p.b_column != 1) {
    const auto lines_from = [&](Index first) {
      return [&p, first, k](int i)
                 __attribute__((always_inline)) { return p.b_line(first + i < p.n ? first + i : p.n - 1) + k; };
    };
    for (Index j = 0; j < columns; j += kLanes) {
      float* panel = to + j / kPanel * kPanelStride + j % kPanel;
      if (columns - j >= kLanes)
        pack_across<kToBf16, kLanes>(lines_from(begin + j), depth, panel, kPanel);
      else
        pack_edge_across<kToBf16>(lines_from(begin + j), columns - j, depth, panel, kPanel, kLanes);
    }
    for (Index j = round_up(columns, kLanes); j < round_up(columns, kPanel); j += kLanes)
      for (Index i = 0; i < depth; ++i) store(to + j / kPanel * kPanelStride + j % kPanel + i * kPanel, zero());
    return;
  }
  for (Index i = 0; i < depth; ++i, to += kPanel) {
    const float* from = p.b_line(k + i) + begin;
    const float* later = p.b_line(k + i + kLinesAhead < p.k ? k + i + kLinesAhead : p.k - 1) + begin;
    float* panel = to;
    Index j = 0;
    for (; j + kPanel <= columns; j += kPanel, panel += kPanelStride) {
      __builtin_prefetch(later + j);
#pragma GCC unroll 2
      for (Index g = 0; g < kPanel; g += kLanes) store(panel + g, as_factor<kToBf16>(load(from + j + g)));
    }
    for (Index g = 0; j < columns && g < kPanel; g += kLanes) {
      const Index left = columns - j - g;
      const Vec v = left >= kLanes ? load(from + j + g) : left > 0 ? load_first(from + j + g, left) : zero();
      store(panel + g, as_factor<kToBf16>(v));
    }
  }
}

// sums = tile * panel over `depth`; `ahead` is asked for meanwhile.
template <int R>
HADAL_INLINE void tile_sums(const float* tile, const float* panel, const float* ahead, Index depth,
                            Vec (&sums)[R][kPanelGroups]) {
  if constexpr (kLoopRows == R) {
    const auto *x = reinterpret_cast<const std::uint32_t*>(tile), *w = reinterpret_cast<const std::uint32_t*>(panel),
               *next = reinterpret_cast<const std::uint32_t*>(ahead);
    // Blocks are filled up with zeros to whole steps of the loop.
    return sum_steps_of_six(x, w, next, (depth + kLoopSteps - 1) / kLoopSteps, sums);
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (Vec& v : sums[i]) v = zero();
  for (Index k = 0; k < depth; ++k, tile += kTileRows, panel += kPanel) {
    Vec w[kPanelGroups];
#pragma GCC unroll 2
    for (int g = 0; g < kPanelGroups; ++g) w[g] = load(panel + g * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec x = broadcast(tile[i]);
#pragma GCC unroll 2
      for (int g = 0; g < kPanelGroups; ++g) sums[i][g] = fma(x, w[g], sums[i][g]);
    }
    if (k % 2 == 0) __builtin_prefetch(ahead + k * kTileRows);
  }
}

// Where a tile's sums go: the sums of earlier blocks, and y with the last one.
HADAL_INLINE void put_sums(Vec (&sums)[kTileRows][kPanelGroups], bool first, bool last, float* so_far,
                           const ProductF32& p, Index row, Index rows, Index column, Index columns) {
  if (!first)
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i)
      for (int g = 0; g < kPanelGroups; ++g) sums[i][g] = add(load(so_far + i * kPanel + g * kLanes), sums[i][g]);
  if (last && rows == kTileRows && columns >= kPanel) {
    float* y = p.y + row * p.y_stride + column;
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i, y += p.y_stride)
      for (int g = 0; g < kPanelGroups; ++g)
        store(y + g * kLanes, p.add ? add(load(y + g * kLanes), sums[i][g]) : sums[i][g]);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i)
    for (int g = 0; g < kPanelGroups; ++g) store(so_far + i * kPanel + g * kLanes, sums[i][g]);
  if (!last) return;
  for (Index i = 0; i < rows; ++i)
    for (Index g = 0; g * kLanes < columns && g < kPanelGroups; ++g) {
      float* y = p.y + (row + i) * p.y_stride + column + g * kLanes;
      const Index count = columns - g * kLanes < kLanes ? columns - g * kLanes : kLanes;
      Vec v = load(so_far + i * kPanel + g * kLanes);
      if (p.add) v = add(count == kLanes ? load(y) : load_first(y, count), v);
      if (count == kLanes)
        store(y, v);
      else
        store_first(y, v, count);
    }
}

// A tile's place in y, while its sums are made: elsewhere than in the caches, it would be waited for.
HADAL_INLINE void ask_for_y(const ProductF32& p, Index row, Index row_end, Index column) {
  for (Index i = row; i < row + kTileRows && i < row_end; ++i) __builtin_prefetch(p.y + i * p.y_stride + column, 1);
}

HADAL_INLINE void fill(float* to, Index begin, Index end) {
  for (Index i = begin; i < end; ++i) to[i] = 0;
}

Index product_scratch_floats() {
  return kPieceRows / kTileRows * kTileStride + kPieceColumns / kPanel * kPanelStride + kPieceRows * kPieceColumns + 16;
}

// Rows [row_begin, row_end) by columns [column_begin, column_end) of y: no more than a piece.
template <bool kToBf16>
void product_piece_of(const ProductF32& p, Index row_begin, Index row_end, Index column_begin, Index column_end,
                      float* scratch) {
  float *tiles = scratch, *panels = tiles + kPieceRows / kTileRows * kTileStride,
        *sums = panels + kPieceColumns / kPanel * kPanelStride;
  constexpr Index kSteps = kLoopRows == kTileRows ? kLoopSteps : 1;
  for (Index k = 0; k < p.k; k += kBlock) {
    const Index depth = p.k - k < kBlock ? p.k - k : kBlock, filled = round_up(depth, kSteps);
    pack_tiles<kToBf16>(p, row_begin, row_end, k, depth, tiles);
    pack_panels<kToBf16>(p, column_begin, column_end, k, depth, panels);
    float *so_far = sums, *panel = panels;
    for (Index column = column_begin; column < column_end; column += kPanel, panel += kPanelStride) {
      fill(panel, depth * kPanel, filled * kPanel);
      float* tile = tiles;
      for (Index row = row_begin; row < row_end; row += kTileRows, tile += kTileStride, so_far += kTileRows * kPanel) {
        if (column == column_begin) fill(tile, depth * kTileRows, filled * kTileRows);
        if (k + kBlock >= p.k) ask_for_y(p, row, row_end, column);
        Vec acc[kTileRows][kPanelGroups];
        tile_sums(tile, panel, row + kTileRows < row_end ? tile + kTileStride : tiles, depth, acc);
        put_sums(acc, k == 0, k + kBlock >= p.k, so_far, p, row, row_end - row < kTileRows ? row_end - row : kTileRows,
                 column, column_end - column);
      }
    }
  }
}

void product_piece(const ProductF32& p, Index row_begin, Index row_end, Index column_begin, Index column_end,
                   float* scratch) {
  (p.to_bf16 ? product_piece_of<true> : product_piece_of<false>)(p, row_begin, row_end, column_begin, column_end,
                                                                 scratch);
}

constexpr ProductKernels kProductTable = {kPieceRows, kPieceColumns, product_scratch_floats, product_piece};

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
