#include "hadal/core/number_formats.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

TEST(NumberFormats, E4m3RoundTripsEveryCode) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_float({static_cast<std::uint8_t>(code)});
    EXPECT_EQ(float_to_e4m3(value).bits, code) << value;
  }
}

TEST(NumberFormats, F16RoundTripsEveryFiniteCode) {
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    if ((code & 0x7C00) == 0x7C00 && (code & 0x3FF) != 0) continue;  // NaN payloads are not kept
    EXPECT_EQ(float_to_f16(f16_to_float({static_cast<std::uint16_t>(code)})).bits, code);
  }
}

TEST(NumberFormats, E5m6RoundTripsEveryFiniteCode) {
  for (std::uint16_t code = 0; code < 0x1000; ++code) {
    if ((code & 0x7C0) == 0x7C0) continue;
    EXPECT_EQ(float_to_e5m6(e5m6_to_float(code)), code);
  }
}

TEST(NumberFormats, Bf16RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3F808000u)).bits, 0x3F80);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3F818000u)).bits, 0x3F82);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3F808001u)).bits, 0x3F81);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7F800001u)))));
}

TEST(NumberFormats, PowersOfTwoRoundUp) {
  EXPECT_EQ(round_up_to_power_of_two(1.0f), 1.0f);
  EXPECT_EQ(round_up_to_power_of_two(1.0000001f), 2.0f);
  EXPECT_EQ(round_up_to_power_of_two(0.3f), 0.5f);
  EXPECT_EQ(ue8m0_to_float(127), 1.0f);
}

}  // namespace
}  // namespace hadal
