// Float32 activations in fixed point, for weights that are small integers: with vpdpbusd four products a dword instead
// of one, and no decoding to float32.
//
// Block by block of K, x becomes x ~ X * 2^e with integers |X| <= 2^23: e is the smallest power that its largest
// magnitude allows, so that what is lost is at most 2^-23 of that magnitude (chains of float32 lose about as much). X
// is written in three signed digits of base 256. The sum of a digit's products is an exact integer; together
//   sum = fma(float(sum_2 * 256 + sum_1), 256, float(sum_0)),  total = fma(sum, weight's scale * 2^e, total).
// Magnitudes below 2^-80 count as that much; infinities and NaN make the row NaN.
//
// Packed x, tile by tile: [steps][height][3] dwords of four digits each, then [blocks][height] of BlockOfX.
#pragma once

#include <bit>
#include <limits>

#include "hadal/kernels/cpu/linear_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr int kDigits = 3;
constexpr std::uint32_t kLeastMagnitude = 0x17800000u;  // 2^-80

struct BlockOfX {
  std::int32_t minus_sums[kDigits];  // of the digits
  float scale;                       // 2^e
};

struct FixedStep {
  struct Acc {
    IVec sum[kDigits];  // of the products with each digit, the lowest first
  };
  struct X {
    IVec digit[kDigits];
  };
  static constexpr int kColumns = 4;
  static constexpr float kE4m3Unit = 1;
  static constexpr int kXDwords = kDigits;
  static constexpr int kBlockDwords = sizeof(BlockOfX) / 4;
  static constexpr Index kMostDirectRows = std::numeric_limits<Index>::max();
  static constexpr int kDirectTileRows = 4, kPackedRows = 4, kMostWideRows = 1;

  HADAL_INLINE static X x(const std::uint32_t* p) {
    return {{broadcast_dword(p), broadcast_dword(p + 1), broadcast_dword(p + 2)}};
  }
  // Weights are an offset above their value: sums start that many times the digits' sum lower.
  template <class Weights>
  HADAL_INLINE static Acc start(const std::uint32_t* of_block, const float* zeros) {
    Acc acc;
#pragma GCC unroll 3
    for (int d = 0; d < kDigits; ++d) acc.sum[d] = Weights::times_offset(broadcast_dword(of_block + d), zeros);
    return acc;
  }
  HADAL_INLINE static Acc mac(Acc acc, X x, IVec w) {
#pragma GCC unroll 3
    for (int d = 0; d < kDigits; ++d) acc.sum[d] = _mm512_dpbusd_epi32(acc.sum[d], w, x.digit[d]);
    return acc;
  }
  // Ends a row for the compiler's scheduler, which otherwise keeps more digits waiting than there are registers.
  template <int G>
  HADAL_INLINE static void row_done(Acc (&acc)[G]) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) asm volatile("" : "+v"(acc[g].sum[0]), "+v"(acc[g].sum[1]), "+v"(acc[g].sum[2]));
  }
  HADAL_INLINE static Vec sum(Acc acc) {
    const Vec high = to_float(add_dwords(left<8>(acc.sum[2]), acc.sum[1]));
    return fma(high, broadcast(256), to_float(acc.sum[0]));
  }
  HADAL_INLINE static const float* x_scales(const std::uint32_t* of_block) {
    return reinterpret_cast<const float*>(of_block) + kDigits;
  }
};

struct Int8Bytes {
  static constexpr int kSteps = 1, kColumns = 4;
  static constexpr bool kHasNan = false;
  template <int>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return bit_xor(v, all_dwords(0x80808080u));  // code + 128
  }
  HADAL_INLINE static IVec times_offset(IVec v, const float*) { return left<7>(v); }
};

template <>
constexpr Index kBytesAhead<Int8Bytes> = 3072;

// The even ones of eight codes, then the odd ones: see `digit_order`.
template <bool kHasZero>
struct Int4Bytes {
  static constexpr int kSteps = 2, kColumns = 8;
  static constexpr bool kHasNan = false;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return bit_and(kStep == 0 ? v : right<4>(v), all_dwords(0x0F0F0F0Fu));
  }
  HADAL_INLINE static IVec times_offset(IVec v, const float* zeros) {
    if constexpr (!kHasZero) return left<3>(v);
    return _mm512_mullo_epi32(v, add_dwords(to_int(load(zeros)), all_dwords(8)));
  }
};

// Digits of sixteen columns, in the order of the weights' steps.
HADAL_INLINE __m128i digit_order(__m128i digits, DType weights) {
  const __m128i even_odd = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return weights == DType::kI32 ? _mm_shuffle_epi8(digits, even_odd) : digits;
}

// 2^e for the largest magnitude of a block, and NaN if that is none.
HADAL_INLINE float unit_of(std::uint32_t largest_bits) {
  if (largest_bits >= 0x7F800000u) return __builtin_nanf("");
  const std::uint32_t bits = largest_bits < kLeastMagnitude ? kLeastMagnitude : largest_bits;
  // Almost up to the next power of two: the largest X that three digits write is a little below 2^23.
  const float grown = std::bit_cast<float>(bits) * 0x1.02p0f;
  const std::uint32_t power = std::bit_cast<std::uint32_t>(grown) & 0x7F800000u;
  return std::bit_cast<float>(power >= 0x7F800000u ? 0x7F000000u - (21u << 23) : power - (22u << 23));
}

// Columns [0, columns) of a block as digits, dword d of digit i at to[d * stride + i]; zeros up to `padded`, a multiple
// of 16.
HADAL_INLINE BlockOfX pack_block(const float* x, Index columns, Index padded, DType weights, std::uint32_t* to,
                                 Index stride) {
  IVec largest = all_dwords(0);
  for (Index c = 0; c < columns; c += kLanes) {
    const Vec v = load_first(x + c, columns - c < kLanes ? columns - c : kLanes);
    largest = _mm512_max_epi32(largest, bit_and(as_int(v), all_dwords(~0u >> 1)));
  }
  const float unit = unit_of(static_cast<std::uint32_t>(_mm512_reduce_max_epi32(largest)));
  const Vec per_unit = broadcast(1.0f / unit);
  IVec sums[kDigits] = {all_dwords(0), all_dwords(0), all_dwords(0)};
  for (Index c = 0; c < padded; c += kLanes) {
    const Index left_columns = columns - c < kLanes ? (columns > c ? columns - c : 0) : kLanes;
    IVec number = to_int(mul(load_first(x + c, left_columns), per_unit));
    for (int d = 0; d < kDigits; ++d) {
      const __m128i digits = _mm512_cvtepi32_epi8(number);
      sums[d] = add_dwords(sums[d], _mm512_cvtepi8_epi32(digits));
      alignas(16) std::uint32_t dwords[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(dwords), digit_order(digits, weights));
      for (Index i = 0; i < 4; ++i) to[(c / 4 + i) * stride + d] = dwords[i];
      number = right_signed<8>(add_dwords(number, all_dwords(128)));  // what is left, digits being -128 to 127
    }
  }
  BlockOfX block{};
  for (int d = 0; d < kDigits; ++d) block.minus_sums[d] = -_mm512_reduce_add_epi32(sums[d]);
  block.scale = unit;
  return block;
}

void pack_fixed_tile(const LinearArgs& a, const Matrix& w, Index tile, Index k_begin, Index k_end, std::uint32_t* to) {
  const int height = packed_height<FixedStep>(a, tile);
  const Index stride = height * kDigits;
  auto* blocks = reinterpret_cast<BlockOfX*>(to + steps_of(a, FixedStep::kColumns) * stride);
  for (int i = 0; i < height; ++i) {
    const Index row = tile * tile_rows<FixedStep>(a) + i;
    for (Index begin = k_begin; begin < k_end; begin += w.block) {
      const Index columns = k_end - begin < w.block ? k_end - begin : w.block;
      const Index padded = begin + columns == a.k ? round_up(a.k, 32) - begin : columns;
      // Rows that only fill the tile are zeros.
      const bool exists = row < a.m;
      blocks[begin / w.block * height + i] =
          pack_block(exists ? input_row(a, row) + begin : nullptr, exists ? columns : 0, padded, a.w_dtype,
                     to + begin / 4 * stride + i * kDigits, stride);
    }
  }
}

void pack_fixed(const LinearArgs& a, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed) {
  const Matrix w{a};
  for (Index tile = tile_begin; tile < tile_end; ++tile)
    pack_fixed_tile(a, w, tile, k_begin, k_end,
                    static_cast<std::uint32_t*>(packed) + tile * tile_dwords<FixedStep>(a, w));
}

template <class Weights>
HADAL_INLINE void multiply_fixed_as(const LinearArgs& a, const void* packed, Index n_begin, Index n_end,
                                    const void* next, void* memory) {
  const Matrix w{a};
  direct<FixedStep, Weights>(a, w, static_cast<const std::uint32_t*>(packed), n_begin, n_end, next,
                             cut_scratch(a, w, memory));
}

void multiply_fixed(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next,
                    void* memory) {
  if (a.w_dtype == DType::kI8) return multiply_fixed_as<Int8Bytes>(a, packed, n_begin, n_end, next, memory);
  if (a.w_zero) return multiply_fixed_as<Int4Bytes<true>>(a, packed, n_begin, n_end, next, memory);
  multiply_fixed_as<Int4Bytes<false>>(a, packed, n_begin, n_end, next, memory);
}

Index packed_bytes_fixed(const LinearArgs& a) {
  return tiles_of<FixedStep>(a) * tile_dwords<FixedStep>(a, Matrix{a}) * 4;
}

Index scratch_bytes_fixed(const LinearArgs& a) {
  return (2 * Matrix{a}.blocks * kPanelSetRows + kLanes) * 4;
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
