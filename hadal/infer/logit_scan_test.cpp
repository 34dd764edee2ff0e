#include "hadal/infer/logit_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "hadal/core/random.h"

namespace hadal::infer {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> numbers(std::size_t n, std::uint64_t seed) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(std::round(Philox(seed, 0).uniform(i) * 200 - 100));
  return out;
}

TEST(LogitScan, FindsTheLargestAndTheFirstOfItAtEveryLength) {
  for (std::size_t n = 1; n < 70; ++n) {
    const auto logits = numbers(n, n);
    const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
    EXPECT_EQ(extremes(logits).largest, *best);
    EXPECT_TRUE(extremes(logits).all_below_infinity);
    EXPECT_EQ(index_of(logits, *best), static_cast<std::size_t>(best - logits.begin()));
  }
}

TEST(LogitScan, SeesInfinityAndNaNWhereverTheyAre) {
  for (std::size_t at = 0; at < 40; ++at)
    for (const float bad : {kInf, std::numeric_limits<float>::quiet_NaN()}) {
      auto logits = numbers(40, 1);
      logits[at] = bad;
      EXPECT_FALSE(extremes(logits).all_below_infinity) << at;
    }
  EXPECT_TRUE(extremes(std::vector<float>(40, -kInf)).all_below_infinity);
  EXPECT_EQ(extremes(std::vector<float>(40, -kInf)).largest, -kInf);
}

TEST(LogitScan, VisitsAllThatReachAValue) {
  for (const std::size_t n : {1, 16, 40, 1000}) {
    const auto logits = numbers(n, n);
    for (const float least : {-kInf, -50.0f, 90.0f, 101.0f}) {
      std::vector<std::size_t> expected, seen;
      for (std::size_t i = 0; i < n; ++i)
        if (logits[i] >= least) expected.push_back(i);
      for_each_at_least(logits, least, [&](std::size_t i) { seen.push_back(i); });
      EXPECT_EQ(seen, expected);
    }
  }
}

TEST(LogitScan, EnoughReachTheValueThatSoManyReach) {
  for (const std::size_t n : {10, 1000, 5000})
    for (const Index count : {1, 2, 7, 30, 2000}) {
      const auto logits = numbers(n, n);
      const float least = reached_by(logits, count);
      const auto reach = std::count_if(logits.begin(), logits.end(), [&](float l) { return l >= least; });
      EXPECT_GE(reach, std::min<Index>(count, static_cast<Index>(n)));
    }
  EXPECT_GT(reached_by(numbers(5000, 5), 1), 90);
}

TEST(LogitScan, CloseExponentialsAreClose) {
  for (int first = -700 * 64; first < 0; first += 64) {
    std::array<double, kExpLanes> x, e;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (first + static_cast<double>(i) + 0.3) / 64;
    e = x;
    close_exp(e);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(e[i] / std::exp(x[i]), 1, 1e-13) << x[i];
  }
  std::array<double, kExpLanes> zero{};
  close_exp(zero);
  EXPECT_EQ(zero[0], 1);
}

}  // namespace
}  // namespace hadal::infer
