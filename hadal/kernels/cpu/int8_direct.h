// Few rows of x rounded to int8 by grouped weights in INT8 and INT4, which are read once, as they lie: at the speed of
// memory. The sums and the bits of int8_impl.h.
#pragma once

#include "hadal/kernels/cpu/int8_pack.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr int kGroupVectors = kRowsAbreast / kLanes;  // of a dword of each row

// Beyond, a panel of codes made once for all tiles pays.
HADAL_INLINE bool meets_int8_directly(const LinearArgs& a, const Matrix& w) {
  return w.grouped && a.w_scale && a.m <= F32Step::kMostDirectRows;
}

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

// INT4: what is subtracted from the codes of four columns, byte by byte.
HADAL_INLINE IVec zero_bytes(const float* zeros) {
  IVec z = add_dwords(to_int(load(zeros)), all_dwords(8));
  z = bit_or(z, left<8>(z));
  return bit_or(z, left<16>(z));
}

// Exact sums of a block of `columns`, which begins where `dwords` points to, for G vectors of outputs from `first` on.
// `zeros`: of the first one, or nullptr.
template <class Dot, class Weights, int G, int R>
HADAL_INLINE void int8_block(const Dwords<Weights, kGroupVectors>& dwords, int first, Index columns, const float* zeros,
                             const std::uint32_t* x, IVec (&acc)[R][G]) {
  IVec count[G], z[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    count[g] = all_dwords(0);
    z[g] = zeros ? zero_bytes(zeros + g * kLanes) : all_dwords(0x08080808u);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) acc[i][g] = all_dwords(0);
  }
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
    if (first == 0) dwords.ask_for_later(c);
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

// A group of outputs from `row` on for one tile of R rows; factors and zeros are the group's, [blocks][kRowsAbreast].
template <class Dot, class Weights, int R>
void int8_group(const LinearArgs& a, const Matrix& w, Index row, Index first_row, const std::uint32_t* x,
                const float* x_scale, const Factors& factors, const std::uint8_t* ahead) {
  constexpr int G = int8_vectors(R);
  Dwords<Weights, kGroupVectors> dwords;
  Vec total[R][kGroupVectors];
  for (auto& of_row : total)
    for (Vec& v : of_row) v = zero();
  for (Index block = 0; block < w.blocks; ++block) {
    const Index begin = block * w.block, columns = w.k - begin < w.block ? w.k - begin : w.block;
    dwords.point_to(w, row, begin * 4 / Weights::kColumns, ahead);
    const float* factor = factors.scale + block * kRowsAbreast;
    for (int first = 0; first < kGroupVectors; first += G) {
      IVec acc[R][G];
      const float* zeros = factors.zero ? factors.zero + block * kRowsAbreast + first * kLanes : nullptr;
      int8_block<Dot, Weights>(dwords, first, columns, zeros, x, acc);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const Vec scale = broadcast(x_scale[block * R + i]);
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) {
          Vec& sum = total[i][first + g];
          sum = fma(to_float(acc[i][g]), mul(load(factor + (first + g) * kLanes), scale), sum);
        }
      }
    }
    x += dwords_of<Dot>(columns) * R;
  }
  for (int i = 0; i < R && first_row + i < a.m; ++i)
    for (int v = 0; v < kGroupVectors; ++v) store(a.y + (first_row + i) * a.y_stride + row + v * kLanes, total[i][v]);
}

template <class Dot, class Weights>
void int8_tile_of_group(const LinearArgs& a, const Matrix& w, Index row, Index tile, const std::uint32_t* packed,
                        const Factors& factors, const std::uint8_t* ahead) {
  const std::uint32_t* x = packed + tile * packed_dwords<Dot>(a, w);
  const auto* scales = reinterpret_cast<const float*>(x + kTileRows * dwords_of<Dot>(a.k));
  const Index first_row = tile * tile_rows(a);
  const auto run = [&]<int R>(std::integral_constant<int, R>) {
    int8_group<Dot, Weights, R>(a, w, row, first_row, x, scales, factors, ahead);
  };
  with_height<F32Step>(packed_height(a, tile), run);
}

// Whole groups [n_begin, n_end) of columns of y.
template <class Dot, class Weights>
void int8_direct(const LinearArgs& a, const Matrix& w, const void* packed, Index n_begin, Index n_end, const void* next,
                 void* memory) {
  auto* scale = static_cast<float*>(memory);
  const Factors factors{scale, a.w_zero ? scale + w.blocks * kRowsAbreast : nullptr};
  for (Index row = n_begin; row < n_end; row += kRowsAbreast) {
    const Index then = row + kRowsAbreast;
    const auto* ahead = next && then >= n_end ? static_cast<const std::uint8_t*>(next) : w.dwords(then, 0);
    fill_scales(a, w, row, kRowsAbreast, 1.0f, factors.scale);
    if (factors.zero) fill_zeros(a, w, row, kRowsAbreast, factors.zero);
    for (Index tile = 0; tile < tiles_of(a); ++tile)
      int8_tile_of_group<Dot, Weights>(a, w, row, tile, static_cast<const std::uint32_t*>(packed), factors, ahead);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
