// Bit-exact conversions between float32 and the narrower formats of the report (sections 3.3 and 3.5.2).
//
// Rounding is to nearest, ties to even, everywhere. What happens at the edges differs per format:
//   BF16   8 exponent bits, 7 mantissa; overflow rounds to infinity; NaN stays NaN (quiet).
//   F16    5 exponent bits, 10 mantissa, subnormals; overflow rounds to infinity.
//   E4M3   "fn" variant: bias 7, no infinity, NaN = 0x7F/0xFF, largest 448, subnormals down to 2^-9. Encoding saturates
//          at 448; NaN stays NaN; infinities saturate.
//   E5M6   12 bits (sign, 5 exponent bits with bias 15, 6 mantissa), subnormals, saturates at 65024. The report's
//   format
//          for cached attention outputs.
//   UE8M0  an exponent byte: value 2^(byte - 127), 0xFF is NaN. Only for scales.
//
// All functions are always inlined: kernel translation units are compiled for different instruction sets and must not
// export weak copies of shared functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "hadal/core/dtype.h"

#define HADAL_INLINE [[gnu::always_inline]] inline

namespace hadal {

inline constexpr float kE4M3Max = 448.0f;
inline constexpr float kE5M6Max = 65024.0f;

HADAL_INLINE float bf16_to_float(bf16 value) {
  return std::bit_cast<float>(std::uint32_t{value.bits} << 16);
}

HADAL_INLINE bf16 float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

namespace detail {

// Rounds |value| to a format with `mantissa` bits and minimum normal exponent `min_exponent`; returns an integer code
// in which exponent and mantissa are adjacent fields (IEEE order), so that a carry out of the mantissa moves to the
// next exponent by itself. `value` must be finite and non-negative.
HADAL_INLINE std::uint32_t round_magnitude(float value, int mantissa, int min_exponent) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const int exponent = static_cast<int>(bits >> 23) - 127;
  if (exponent >= min_exponent) {
    const int drop = 23 - mantissa;
    const std::uint32_t rounded = bits + ((1u << (drop - 1)) - 1u) + ((bits >> drop) & 1u);
    return (rounded >> drop) - (static_cast<std::uint32_t>(min_exponent - 1 + 127) << mantissa);
  }
  // Subnormal in the target: adding 2^(min_exponent + 23 - mantissa) aligns the unit of the float with the target's
  // smallest step, and the hardware rounds to nearest even.
  const float magic = std::bit_cast<float>(static_cast<std::uint32_t>(min_exponent + 23 - mantissa + 127) << 23);
  return std::bit_cast<std::uint32_t>(value + magic) - std::bit_cast<std::uint32_t>(magic);
}

}  // namespace detail

HADAL_INLINE float e4m3_to_float(e4m3 value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x80u} << 24;
  const std::uint32_t magnitude = value.bits & 0x7Fu;
  if (magnitude == 0x7F) return std::bit_cast<float>(sign | 0x7FC00000u);
  if (magnitude < 8)
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-9f));
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
}

HADAL_INLINE e4m3 float_to_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80u);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFu);
  if (!(magnitude <= kE4M3Max)) return {static_cast<std::uint8_t>(sign | (magnitude != magnitude ? 0x7Fu : 0x7Eu))};
  return {static_cast<std::uint8_t>(sign | detail::round_magnitude(magnitude, 3, -6))};
}

HADAL_INLINE float f16_to_float(f16 value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000u} << 16;
  const std::uint32_t magnitude = value.bits & 0x7FFFu;
  if (magnitude >= 0x7C00) return std::bit_cast<float>(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13));
  if (magnitude < 0x400)
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
  return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
}

HADAL_INLINE f16 float_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFu);
  if (magnitude != magnitude) return {static_cast<std::uint16_t>(sign | 0x7E00u)};
  if (magnitude >= 65520.0f) return {static_cast<std::uint16_t>(sign | 0x7C00u)};
  return {static_cast<std::uint16_t>(sign | detail::round_magnitude(magnitude, 10, -14))};
}

HADAL_INLINE std::uint16_t float_to_e5m6(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 20) & 0x800u);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFu);
  if (magnitude != magnitude) return static_cast<std::uint16_t>(sign | 0x7FFu);
  if (magnitude >= kE5M6Max) return static_cast<std::uint16_t>(sign | 0x7BFu);
  return static_cast<std::uint16_t>(sign | detail::round_magnitude(magnitude, 6, -14));
}

HADAL_INLINE float e5m6_to_float(std::uint16_t code) {
  const std::uint32_t sign = std::uint32_t{code & 0x800u} << 20;
  const std::uint32_t magnitude = code & 0x7FFu;
  if (magnitude >= 0x7C0) return std::bit_cast<float>(sign | 0x7F800000u | ((magnitude & 0x3Fu) << 17));
  if (magnitude < 0x40)
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-20f));
  return std::bit_cast<float>(sign | ((magnitude << 17) + (112u << 23)));
}

HADAL_INLINE float ue8m0_to_float(std::uint8_t code) {
  if (code == 0xFF) return std::bit_cast<float>(0x7FC00000u);
  if (code == 0) return 0x1p-127f;
  return std::bit_cast<float>(std::uint32_t{code} << 23);
}

// The smallest power of two that is >= value; value must be positive and finite (rule 33: scales round up).
HADAL_INLINE float round_up_to_power_of_two(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits & 0x7FFFFFu) == 0 ? bits : (bits & 0x7F800000u) + 0x800000u);
}

}  // namespace hadal
