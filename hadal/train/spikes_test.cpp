#include "hadal/train/spikes.h"

#include <gtest/gtest.h>

#include <limits>

namespace hadal::train {
namespace {

TEST(Spikes, WhatIsNotFiniteIsOneAtOnce) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const double z : {0.0, 8.0}) {
    const SpikeRule rule{.z_score = z, .window = 4};
    EXPECT_TRUE(is_spike(rule, {}, nan, 1));
    EXPECT_TRUE(is_spike(rule, {}, 3, infinity));
    EXPECT_FALSE(is_spike(rule, {}, 1e9, 1e9));
  }
}

TEST(Spikes, ALossFarAboveTheLastOnesIsOne) {
  const SpikeRule rule{.z_score = 3, .window = 4};
  const std::vector<double> before = {2, 4, 2, 4};  // mean 3, deviation 1
  EXPECT_FALSE(is_spike(rule, before, 5.9, 1));
  EXPECT_TRUE(is_spike(rule, before, 6.1, 1));
  EXPECT_FALSE(is_spike(rule, before, -10, 1));
  EXPECT_FALSE(is_spike(rule, {3}, 100, 1)) << "too few to compare with";
  EXPECT_FALSE(is_spike({.z_score = 0, .window = 4}, before, 100, 1));
}

TEST(Spikes, OnlyTheLastOnesCount) {
  const SpikeRule rule{.z_score = 3, .window = 2};
  std::vector<double> losses;
  for (const double loss : {9.0, 8.0, 7.0}) remember_loss(rule, losses, loss);
  EXPECT_EQ(losses, (std::vector<double>{8, 7}));
}

}  // namespace
}  // namespace hadal::train
