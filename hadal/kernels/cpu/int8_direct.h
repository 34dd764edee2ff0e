// Few rows of rounded x by weights in INT8 and INT4, which are read once, as they lie: grouped ones at the speed of
// memory, rows as stored by way of a stage. The sums and the bits of int8_impl.h.
#pragma once

#include "hadal/kernels/cpu/int8_pack.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr int kGroupVectors = kRowsAbreast / kLanes;  // of a dword of each row

// Beyond, a panel of codes made once for all tiles pays; rows as stored would be transposed anew for every tile.
HADAL_INLINE bool meets_int8_directly(const LinearArgs& a, const Matrix& w) {
  const Index most = w.grouped ? F32Step::kMostDirectRows : kLanes == 8 ? F32Step::kDirectTileRows : 0;
  return a.w_scale && a.m <= most;
}

// What goes into a block's sums of a tile: x, by steps, and what there is of every row.
struct BlockOfTile {
  const std::uint32_t* x;
  const float* scales;
  const std::int32_t* minus_sums;  // with Dot::kOffset
};

// Vectors of outputs that go together in a tile of `rows`: their sums and operands fit into the registers.
constexpr int int8_vectors(int rows) {
  return rows <= (kLanes == 16 ? 4 : 2) ? 4 : 2;
}

// The operands of a step, for the rows of a tile: those of one vector of outputs while few rows' x are in registers,
// of all of them while an x that is loaded serves them.
template <class Dot, int G, int R>
HADAL_INLINE void int8_step(const IVec (&codes)[G], const std::uint32_t* x, IVec (&acc)[R][G]) {
  constexpr int D = Dot::kDwords;
  if constexpr (kLanes == 8 && R <= 2) {
    IVec xs[R][D];
#pragma GCC unroll 2
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int d = 0; d < D; ++d) xs[i][d] = broadcast_dword(x + d * R + i);
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      IVec operand[D];
      Dot::split(codes[g], operand);
#pragma GCC unroll 2
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
        for (int d = 0; d < D; ++d) acc[i][g] = Dot::mac(acc[i][g], xs[i][d], operand[d]);
    }
    return;
  }
  IVec operand[G][D];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) Dot::split(codes[g], operand[g]);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int d = 0; d < D; ++d) {
      const IVec xs = broadcast_dword(x + d * R + i);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) acc[i][g] = Dot::mac(acc[i][g], xs, operand[g][d]);
    }
}

// INT4: zero points, `zeros` being what they are above 8 (nullptr: nothing).
HADAL_INLINE IVec zero_dwords(const float* zeros) {
  return zeros ? add_dwords(to_int(load(zeros)), all_dwords(8)) : all_dwords(8);
}
HADAL_INLINE IVec zero_words(const float* zeros) {
  const IVec z = zero_dwords(zeros);
  return bit_or(z, left<16>(z));
}
// What is subtracted from the codes of four columns, byte by byte.
HADAL_INLINE IVec zero_bytes(const float* zeros) {
  IVec z = zero_dwords(zeros);
  z = bit_or(z, left<8>(z));
  return bit_or(z, left<16>(z));
}

// Exact sums of a block of `columns`, which begins where `dwords` points to, for G vectors of outputs from `first` on.
// `zeros`: of the first one, or nullptr. `ask`: for what is read later.
template <class Dot, class Weights, int G, int R>
HADAL_INLINE void int8_block(const Dwords<Weights, kGroupVectors>& dwords, int first, Index columns, const float* zeros,
                             const BlockOfTile& tile, bool ask, IVec (&acc)[R][G]) {
  if constexpr (Dot::kOffset) return Dot::block(dwords, first, columns, zeros, tile, ask, acc);
  IVec count[G], z[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    count[g] = all_dwords(0);
    z[g] = zero_bytes(zeros ? zeros + g * kLanes : nullptr);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) acc[i][g] = all_dwords(0);
  }
  const std::uint32_t* x = tile.x;
  int c = 0;
  for (Index left = columns; left > 0; left -= Weights::kColumns, ++c) {
    IVec codes[Weights::kOut][G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      const IVec dword = dwords.at(first + g, c);
      IVec out[Weights::kOut];
      Weights::codes(&dword, zero(), z[g], out);
#pragma GCC unroll 2
      for (int o = 0; o < Weights::kOut; ++o) codes[o][g] = out[o];
    }
    if (ask) dwords.ask_for_later(c);
#pragma GCC unroll 2
    for (int o = 0; o < Weights::kOut; ++o) {
      if (o * 4 >= left) break;  // an odd half of a dword behind K has no step
      if constexpr (Dot::kStarts)
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) count[g] = Dot::count(count[g], codes[o][g]);
      int8_step<Dot>(codes[o], x, acc);
      x += Dot::kDwords * R;
    }
  }
  if constexpr (Dot::kStarts)
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g)
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) acc[i][g] = add_dwords(acc[i][g], Dot::start(count[g]));
}

// A stage of rows as stored: columns of kGroupVectors vectors of outputs, whole blocks.
template <class Weights>
class StagedRows {
 public:
  // Where the block of columns [begin, end) lies; those of the next set, from `ahead` on, are asked for meanwhile.
  HADAL_INLINE const IVec (&at(const Matrix& w, Index row, Index begin, Index end,
                               const std::uint8_t*& ahead))[kGroupVectors] {
    if (end > end_) {
      begin_ = begin;
      end_ = begin + kColumns / w.block * w.block;
      if (end_ < end) end_ = end;
      fill(w, row, ahead);
    }
    return columns_[(begin - begin_) / Weights::kColumns];
  }

 private:
  static constexpr Index kColumns = kStageBytes / 4 * Weights::kColumns;

  HADAL_INLINE void fill(const Matrix& w, Index row, const std::uint8_t*& ahead) {
    constexpr int kLines = kChunkBytes * kLanes / kLine;
    const Index first = begin_ * 4 / Weights::kColumns;
    IVec unused;
    for (Index v = 0; v < kGroupVectors; ++v) {
      const Index from = row + v * kLanes < w.n ? row + v * kLanes : w.n - 1;
      for (Index b = 0; b < kStageBytes && first + b < w.used_bytes; b += kChunkBytes) {
        stage<false>(w, from, first + b, &columns_[b / 4][v], kGroupVectors, unused);
        ask_for<kLines>(ahead);
      }
    }
  }

  alignas(64) IVec columns_[kStageBytes / 4][kGroupVectors];
  Index begin_ = 0, end_ = 0;
};

// A group of outputs from `row` on for one tile of R rows; factors and zeros are the group's, [blocks][kRowsAbreast].
template <class Dot, class Weights, int R>
void int8_group(const LinearArgs& a, const Matrix& w, Index row, Index first_row, BlockOfTile tile,
                const Factors& factors, const std::uint8_t* ahead) {
  constexpr int G = int8_vectors(R);
  Dwords<Weights, kGroupVectors> dwords;
  StagedRows<Weights> staged;
  Vec total[R][kGroupVectors];
  for (auto& of_row : total)
    for (Vec& v : of_row) v = zero();
  for (Index block = 0; block < w.blocks; ++block) {
    const Index begin = block * w.block, columns = w.k - begin < w.block ? w.k - begin : w.block;
    if (w.grouped)
      dwords.point_to(w, row, begin * 4 / Weights::kColumns, ahead);
    else
      dwords.point_to(staged.at(w, row, begin, begin + columns, ahead));
    factors.ask_for_later(block);
    const float* factor = factors.scale + block * kRowsAbreast;
    for (int first = 0; first < kGroupVectors; first += G) {
      IVec acc[R][G];
      const float* zeros = factors.zero ? factors.zero + block * kRowsAbreast + first * kLanes : nullptr;
      int8_block<Dot>(dwords, first, columns, zeros, tile, w.grouped && first == 0, acc);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const Vec scale = broadcast(tile.scales[i]);
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) {
          Vec& sum = total[i][first + g];
          sum = fma(to_float(acc[i][g]), mul(load(factor + (first + g) * kLanes), scale), sum);
        }
      }
    }
    tile.x += dwords_of<Dot>(columns) * R;
    tile.scales += R;
    tile.minus_sums += R;
  }
  for (int i = 0; i < R && first_row + i < a.m; ++i)
    for (int v = 0; v < kGroupVectors; ++v) {
      float* to = a.y + (first_row + i) * a.y_stride + row + v * kLanes;
      const Index room = w.n - row - v * kLanes;
      if (room >= kLanes)
        store(to, total[i][v]);
      else if (room > 0)
        store_first(to, total[i][v], room);
    }
}

template <class Dot, class Weights>
void int8_tile_of_group(const LinearArgs& a, const Matrix& w, Index row, Index tile, const std::uint32_t* packed,
                        const Factors& factors, const std::uint8_t* ahead) {
  const std::uint32_t* x = packed + tile * packed_dwords<Dot>(a, w);
  const auto* scales = reinterpret_cast<const float*>(x + kTileRows * dwords_of<Dot>(a.k));
  const auto* minus_sums = reinterpret_cast<const std::int32_t*>(scales + kTileRows * w.blocks);
  const Index first_row = tile * tile_rows(a);
  const auto run = [&]<int R>(std::integral_constant<int, R>) {
    int8_group<Dot, Weights, R>(a, w, row, first_row, {x, scales, minus_sums}, factors, ahead);
  };
  with_tile_height<F32Step::kDirectTileRows>(packed_height(a, tile), run);
}

// Scales of rows [row, end) as stored, each its own: three percent of the bytes of a group, but nobody would ask for
// them in time.
HADAL_INLINE void ask_for_scales(const LinearArgs& a, Index row, Index end) {
  if (!a.w_scale || a.scale_rows != 1 || a.w_scale_layout != Layout::kRows || end > a.n) return;
  const Index row_bytes = a.w_scale_stride * bits_of(a.w_scale_dtype) / 8;
  const auto* base = static_cast<const std::uint8_t*>(a.w_scale) + a.w_first_row * row_bytes;
  for (const std::uint8_t* p = base + row * row_bytes; p < base + end * row_bytes; p += kLine)
    __builtin_prefetch(p, 0, 2);
}

// Columns [n_begin, n_end) of y, of grouped weights whole groups.
template <class Dot, class Weights>
void int8_direct(const LinearArgs& a, const Matrix& w, const void* packed, Index n_begin, Index n_end, const void* next,
                 void* memory) {
  auto* scale = static_cast<float*>(memory);
  float* const zero = a.w_zero ? scale + w.blocks * kRowsAbreast : nullptr;
  Matrix cut = w;
  cut.n = n_end;  // rows behind the piece are another's
  for (Index row = n_begin; row < n_end; row += kRowsAbreast) {
    const Index then = row + kRowsAbreast;
    const std::uint8_t* ahead = w.grouped ? w.dwords(then, 0) : w.base + then * w.row_bytes;
    if (next && then >= n_end) ahead = static_cast<const std::uint8_t*>(next);
    const Factors factors = factors_of(a, w, row, kRowsAbreast, 1.0f, scale, zero);
    ask_for_scales(a, then, then + kRowsAbreast);
    for (Index tile = 0; tile < tiles_of(a); ++tile)
      int8_tile_of_group<Dot, Weights>(a, cut, row, tile, static_cast<const std::uint32_t*>(packed), factors, ahead);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
