#include "hadal/core/random.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

using Block = std::array<std::uint32_t, 4>;

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformsLieInTheUnitIntervalAndAverageToOneHalf) {
  const Philox random(1, 2);
  double sum = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double u = random.uniform(i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 100000, 0.5, 0.005);
}

TEST(Philox, SeedsStreamsAndIndicesAreIndependent) {
  EXPECT_NE(Philox(1, 0).block(0), Philox(2, 0).block(0));
  EXPECT_NE(Philox(1, 0).block(0), Philox(1, 1).block(0));
  EXPECT_NE(Philox(1, 0).block(0), Philox(1, 0).block(1));
  EXPECT_EQ(Philox(1, 0).block(7), Philox(1, 0).block(7));
}

}  // namespace
}  // namespace hadal
