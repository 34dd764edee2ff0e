// INT4 weights as words in AVX2, for x in words: pairs of products, and one instruction or two to unpack a pair of
// codes, with no decoding to float32. The zero point is taken from the sums of a block, not from every code
// (Dot::kOffset).
#pragma once

#include "hadal/kernels/cpu/avx2/int8_vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/int8_impl.h"

namespace hadal::kernels::avx2 {
namespace {

// Eight codes a dword, as they are stored.
struct Int4Codes {
  static constexpr int kIn = 1, kOut = 1, kColumns = 8;
  static constexpr bool kRounds = false;
  HADAL_INLINE static void codes(const IVec* v, Vec, IVec, IVec (&out)[kOut]) { out[0] = v[0]; }
};

// Codes of such dwords as pairs of words: columns 0 and 4 of eight, 1 and 5, 2 and 6, 3 and 7. Sums fit: of 128
// products of words and differences of codes.
struct Int4Dot : WordDot {
  static constexpr int kColumns = 8, kDwords = 4;
  static constexpr bool kOffset = true;

  template <int kPair>
  HADAL_INLINE static IVec pair(IVec codes) {
    const IVec mask = all_dwords(0x000F000Fu);
    if constexpr (kPair == 0) return bit_and(codes, mask);
    if constexpr (kPair == 3) return words_right_12(codes);
    return bit_and(right<4 * kPair>(codes), mask);
  }
  HADAL_INLINE static void split(IVec codes, IVec (&out)[kDwords]) {
    out[0] = pair<0>(codes), out[1] = pair<1>(codes), out[2] = pair<2>(codes), out[3] = pair<3>(codes);
  }
  HADAL_INLINE static IVec less(IVec codes, IVec zeros) { return sub_words(codes, zeros); }

  // See int8_block.
  template <int G, int R>
  HADAL_INLINE static void block(const Dwords<Int4Codes, kGroupVectors>& dwords, int first, Index columns,
                                 const float* zeros, const BlockOfTile& tile, bool ask, IVec (&acc)[R][G]) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      const IVec zero = zero_dwords(zeros ? zeros + g * kLanes : nullptr);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i)
        acc[i][g] = mul_dwords(all_dwords(static_cast<std::uint32_t>(tile.minus_sums[i])), zero);
    }
    static_assert(sizeof(IVec) * kGroupVectors == kGroupBytes);  // of a column, staged or not
    const std::uint32_t* x = tile.x;
    const std::uint8_t* w = dwords.of + first * sizeof(IVec);
    const int count = static_cast<int>((columns + kColumns - 1) / kColumns);
    for (int c = 0; c < count; ++c, x += kDwords * R, w += kGroupBytes) {
      if (ask) dwords.ask_for_later(c);
      if constexpr (R == 1)
        column_of_row(w, x, acc);
      else
        column<0>(w, x, acc);
    }
  }

 private:
  // The products of a column of dwords for a row: its x are in registers, vectors of outputs follow one another.
  template <int G>
  HADAL_INLINE static void column_of_row(const std::uint8_t* w, const std::uint32_t* x, IVec (&acc)[1][G]) {
    const IVec xs[kDwords] = {broadcast_dword(x), broadcast_dword(x + 1), broadcast_dword(x + 2),
                              broadcast_dword(x + 3)};
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      const IVec codes = load_dwords(w + g * sizeof(IVec));
      IVec sum = mac(acc[0][g], xs[0], pair<0>(codes));
      sum = mac(sum, xs[1], pair<1>(codes));
      sum = mac(sum, xs[2], pair<2>(codes));
      acc[0][g] = mac(sum, xs[3], pair<3>(codes));
      done(acc[0][g]);
    }
  }

  // The same for several rows, pair by pair from kPair on: the weights are loaded anew for each, as registers are few.
  template <int kPair, int G, int R>
  HADAL_INLINE static void column(const std::uint8_t* w, const std::uint32_t* x, IVec (&acc)[R][G]) {
    asm volatile("" : "+r"(w));
    IVec pairs[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) pairs[g] = pair<kPair>(load_dwords(w + g * sizeof(IVec)));
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const IVec xs = broadcast_dword(x + kPair * R + i);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        acc[i][g] = mac(acc[i][g], xs, pairs[g]);
        done(acc[i][g]);
      }
    }
    if constexpr (kPair + 1 < kDwords) column<kPair + 1>(w, x, acc);
  }
};

// A block's numbers, values times `to_words` rounded to words, as the dwords that pairs are multiplied by; returns
// minus their sum.
HADAL_INLINE std::int32_t words_of(const float* x, Index columns, Vec to_words, std::uint32_t* dwords) {
  __m128i sum = _mm_setzero_si128();
  for (Index i = 0; i < columns; i += kLanes) {
    const Index left = columns - i;
    const __m128i words =
        saturated_words(to_int(mul(left >= kLanes ? load(x + i) : load_first(x + i, left), to_words)));
    sum = _mm_add_epi32(sum, _mm_madd_epi16(words, _mm_set1_epi16(1)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dwords + i / 2), words);
  }
  sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
  return -_mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 1)));
}

// The bits of the largest magnitude of a block.
HADAL_INLINE std::uint32_t largest_bits(const float* x, Index columns) {
  IVec largest = all_dwords(0);
  for (Index i = 0; i < columns; i += kLanes) {
    const Index left = columns - i;
    const IVec bits = as_int(left >= kLanes ? load(x + i) : load_first(x + i, left));
    largest = max_dwords(largest, bit_and(bits, all_dwords(~0u >> 1)));
  }
  return largest_dword(largest);
}

// x rounded to int8.
template <>
HADAL_INLINE RoundedBlock round_block<Int4Dot>(const float* x, Index columns, std::uint32_t* dwords) {
  const Rounding rounding(all_dwords(largest_bits(x, columns)));
  const std::int32_t minus_sum = words_of(x, columns, rounding.to_codes, dwords);
  return {_mm256_cvtss_f32(rounding.to_values), minus_sum};
}

}  // namespace
}  // namespace hadal::kernels::avx2
