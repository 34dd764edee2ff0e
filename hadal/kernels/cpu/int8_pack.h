// x rounded to int8 for the products of int8_impl.h, written once for every instruction set. Included like
// linear_impl.h, after int8_codes.h.
//
// x has one scale per row and block: the largest magnitude of the block / 127, codes to nearest even. Packed, tile by
// tile: [steps][height] dwords of codes, then [blocks][height] scales and, for weights that still have their offset
// when they are multiplied (Dot::kOffset), as many sums of codes with their sign changed.
#pragma once

#include "hadal/kernels/cpu/int8_codes.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

template <class Dot>
HADAL_INLINE Index dwords_of(Index columns) {
  return (columns + Dot::kColumns - 1) / Dot::kColumns * Dot::kDwords;
}

template <class Dot>
HADAL_INLINE Index packed_dwords(const LinearArgs& a, const Matrix& w) {
  return kTileRows * (dwords_of<Dot>(a.k) + w.blocks * (Dot::kOffset ? 2 : 1));
}

template <class Dot>
Index int8_packed_bytes_as(const LinearArgs& a) {
  return tiles_of(a) * packed_dwords<Dot>(a, Matrix{a}) * 4;
}

struct RoundedBlock {
  float scale;
  std::int32_t minus_sum;  // with Dot::kOffset
};

// Up to kScaleBlock columns of a row as dwords of codes.
template <class Dot>
HADAL_INLINE RoundedBlock round_block(const float* x, Index columns, std::uint32_t* dwords) {
  alignas(64) float values[kScaleBlock];
  alignas(64) std::uint8_t codes[kScaleBlock];
  const Index padded = round_up(columns, kLanes * 4);
  if (columns < padded) {
    for (Index i = 0; i < padded; ++i) values[i] = i < columns ? x[i] : 0.0f;
    x = values;
  }
  IVec bits = all_dwords(0);
  for (Index i = 0; i < padded; i += kLanes) bits = max_dwords(bits, bit_and(load_dwords(x + i), all_dwords(~0u >> 1)));
  const Rounding rounding(all_dwords(largest_dword(bits)));
  for (Index i = 0; i < padded; i += kLanes) store_bytes(codes + i, to_int(mul(load(x + i), rounding.to_codes)));
  for (Index i = 0; i < padded; i += kLanes * 4) {
    IVec split[Dot::kDwords];
    Dot::split_x(load_dwords(codes + i), split);
    for (int s = 0; s < Dot::kDwords; ++s) {
      alignas(64) std::uint32_t lanes[kLanes];
      store_dwords(lanes, split[s]);
      for (int j = 0; j < kLanes; ++j) dwords[(i / 4 + j) * Dot::kDwords + s] = lanes[j];
    }
  }
  float scale[kLanes];
  store(scale, rounding.to_values);
  return {scale[0], 0};
}

template <class Dot>
void round_tile(const LinearArgs& a, const Matrix& w, Index tile, Index k_begin, Index k_end, std::uint32_t* to) {
  const int height = packed_height(a, tile);
  auto* scales = reinterpret_cast<float*>(to + kTileRows * dwords_of<Dot>(a.k));
  auto* minus_sums = reinterpret_cast<std::int32_t*>(scales + kTileRows * w.blocks);
  alignas(64) std::uint32_t dwords[kScaleBlock / Dot::kColumns * Dot::kDwords];
  static constexpr float kZeros[kScaleBlock] = {};
  for (int i = 0; i < height; ++i)
    for (Index begin = k_begin; begin < k_end; begin += w.block) {
      const Index columns = k_end - begin < w.block ? k_end - begin : w.block, row = tile * tile_rows(a) + i;
      // Rows that only fill the tile are zeros.
      const RoundedBlock block = round_block<Dot>(row < a.m ? input_row(a, row) + begin : kZeros, columns, dwords);
      scales[begin / w.block * height + i] = block.scale;
      if constexpr (Dot::kOffset) minus_sums[begin / w.block * height + i] = block.minus_sum;
      std::uint32_t* at = to + dwords_of<Dot>(begin) * height + i;
      for (Index d = 0; d < dwords_of<Dot>(columns); ++d) at[d * height] = dwords[d];
    }
}

template <class Dot>
void int8_pack_as(const LinearArgs& a, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed) {
  const Matrix w{a};
  for (Index tile = tile_begin; tile < tile_end; ++tile)
    round_tile<Dot>(a, w, tile, k_begin, k_end, static_cast<std::uint32_t*>(packed) + tile * packed_dwords<Dot>(a, w));
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
