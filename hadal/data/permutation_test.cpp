#include "hadal/data/permutation.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace hadal::data {
namespace {

std::vector<std::uint64_t> all_of(std::uint64_t size, std::uint64_t seed, std::uint64_t stream) {
  const Permutation p(size, seed, stream);
  std::vector<std::uint64_t> out;
  for (std::uint64_t i = 0; i < size; ++i) out.push_back(p(i));
  return out;
}

TEST(Permutation, HasEveryNumberOnce) {
  for (std::uint64_t size = 1; size < 300; ++size) {
    const auto p = all_of(size, 7, size);
    ASSERT_EQ(std::set<std::uint64_t>(p.begin(), p.end()).size(), size);
    for (const auto i : p) ASSERT_LT(i, size);
  }
  const auto large = all_of(100003, 1, 2);
  EXPECT_EQ(std::set<std::uint64_t>(large.begin(), large.end()).size(), large.size());
}

TEST(Permutation, OfAnySizeStaysInRange) {
  for (const std::uint64_t size : {(std::uint64_t{1} << 32) + 1, std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    const Permutation p(size, 1, 2);
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = size - 100; i < size; ++i) {
      ASSERT_LT(p(i), size);
      seen.insert(p(i));
    }
    EXPECT_EQ(seen.size(), 100u);
  }
}

TEST(Permutation, DependsOnSeedAndStream) {
  EXPECT_EQ(all_of(100, 1, 2), all_of(100, 1, 2));
  EXPECT_NE(all_of(100, 1, 2), all_of(100, 2, 2));
  EXPECT_NE(all_of(100, 1, 2), all_of(100, 1, 3));
}

// Over many streams every number comes to every place about equally often, and one place says nothing of the next.
TEST(Permutation, LooksLikeChance) {
  constexpr int kSize = 6, kDraws = 6000;
  int places[kSize][kSize] = {}, steps[kSize] = {};
  for (int s = 0; s < kDraws; ++s) {
    const auto p = all_of(kSize, 5, static_cast<std::uint64_t>(s));
    for (int i = 0; i < kSize; ++i) ++places[i][p[static_cast<std::size_t>(i)]];
    ++steps[(p[1] + kSize - p[0]) % kSize];
  }
  for (const auto& row : places)
    for (const int n : row) EXPECT_NEAR(n, kDraws / kSize, 150);  // five standard deviations
  EXPECT_EQ(steps[0], 0);
  for (int i = 1; i < kSize; ++i) EXPECT_NEAR(steps[i], kDraws / (kSize - 1), 160);
}

}  // namespace
}  // namespace hadal::data
