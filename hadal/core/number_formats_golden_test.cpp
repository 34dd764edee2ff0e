// Conversions against numbers of an independent implementation.
#include <gtest/gtest.h>

#include "hadal/core/number_formats.h"
#include "tests/support/golden.h"

namespace hadal {
namespace {

const test::Golden& golden() {
  static const test::Golden g(HADAL_TEST_DATA "/golden/formats.safetensors");
  return g;
}

TEST(NumberFormatsGolden, Rule32_E4m3Decodes) {
  const auto table = golden().floats("e4m3.decode");
  for (std::size_t c = 0; c < 256; ++c) {
    const float got = e4m3_to_float({static_cast<std::uint8_t>(c)});
    if (std::isnan(table[c]))
      EXPECT_TRUE(std::isnan(got));
    else
      EXPECT_EQ(got, table[c]);
  }
}

TEST(NumberFormatsGolden, Rule32_E4m3Encodes) {
  const auto in = golden().floats("e4m3.encode.in");
  const auto out = golden().bytes("e4m3.encode.out");
  for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(float_to_e4m3(in[i]).bits, out[i]) << in[i];
}

TEST(NumberFormatsGolden, Bf16Encodes) {
  const auto in = golden().floats("bf16.in");
  const auto out = golden().halves("bf16.out");
  for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(float_to_bf16(in[i]).bits, out[i]) << in[i];
}

TEST(NumberFormatsGolden, E5m6RoundsAndSaturates) {
  const auto in = golden().floats("e5m6.in"), out = golden().floats("e5m6.out");
  for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(e5m6_to_float(float_to_e5m6(in[i])), out[i]) << in[i];
}

}  // namespace
}  // namespace hadal
