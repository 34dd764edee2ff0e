// Float32 activations as 16-bit integers, for INT4 weights: pairs of products of words where AVX2 has nothing better, a
// tenth of the instructions that decoding the weights to float32 takes.
//
// Block by block of K, x becomes x ~ X * 2^e with integers -2^15 <= X < 2^15: e is the smallest power that its largest
// magnitude allows, so that what is lost is at most 2^-15 of that magnitude (numbers that round to 2^15 are one less).
// The sum of a block is an exact integer;
//   total = fma(float(sum), weight's scale * 2^e, total), blocks ascending, from zero.
// Magnitudes below 2^-80 count as that much; infinities and NaN make the row NaN.
//
// Packed and multiplied like x rounded to int8, by int8_pack.h, int8_direct.h and int8_impl.h.
#pragma once

#include <bit>

#include "hadal/kernels/cpu/avx2/int4_dot.h"

namespace hadal::kernels::avx2 {
namespace {

constexpr std::uint32_t kLeastFixed = 0x17800000u;  // 2^-80

struct FixedDot : Int4Dot {};

// 2^e for the largest magnitude of a block, and NaN if that is none.
HADAL_INLINE float unit_of(std::uint32_t largest_bits) {
  if (largest_bits >= 0x7F800000u) return __builtin_nanf("");
  const std::uint32_t bits = largest_bits < kLeastFixed ? kLeastFixed : largest_bits;
  return std::bit_cast<float>((bits & 0x7F800000u) - (14u << 23));
}

template <>
HADAL_INLINE RoundedBlock round_block<FixedDot>(const float* x, Index columns, std::uint32_t* dwords) {
  const float unit = unit_of(largest_bits(x, columns));
  return {unit, words_of(x, columns, broadcast(1.0f / unit), dwords)};
}

}  // namespace
}  // namespace hadal::kernels::avx2
