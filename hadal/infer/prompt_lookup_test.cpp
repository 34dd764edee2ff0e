#include "hadal/infer/prompt_lookup.h"

#include <gtest/gtest.h>

#include "hadal/core/random.h"

namespace hadal::infer {
namespace prompt_lookup_test {
namespace {

using Ids = std::vector<TokenId>;

Ids draft(const Ids& ids, Index most) {
  PromptLookup lookup;
  lookup.learn(ids);
  return lookup.draft(ids, most);
}

TEST(PromptLookup, WhatFollowedTheLastTime) {
  EXPECT_EQ(draft({1, 2, 3, 4, 5, 9, 1, 2, 3}, 2), (Ids{4, 5}));
  EXPECT_EQ(draft({1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3}, 1), (Ids{5})) << "the latest place";
  EXPECT_EQ(draft({7, 1, 2, 3, 4, 9, 8, 1, 2, 3, 5, 9, 7, 1, 2, 3}, 1), (Ids{4})) << "the longest stretch first";
  EXPECT_EQ(draft({1, 2, 3, 4, 1, 2, 3}, 9), (Ids{4, 1, 2, 3})) << "there is no more";
  EXPECT_EQ(draft({1, 2, 3, 4, 5}, 2), Ids{}) << "nothing repeats";
  EXPECT_EQ(draft({1, 2, 7, 8, 1, 2}, 2), Ids{}) << "two tokens are too few";
  EXPECT_EQ(draft({}, 2), Ids{});
  EXPECT_EQ(draft({5, 5, 5, 5, 5, 5}, 3), (Ids{5})) << "its end overlaps the place";
}

TEST(PromptLookup, LearningPieceByPieceIsTheSame) {
  const Philox random(3, 0);
  Ids ids;
  for (std::uint64_t i = 0; i < 400; ++i) ids.push_back(static_cast<TokenId>(random.uniform(i) * 3));
  PromptLookup pieces;
  for (std::size_t end = 0; end <= ids.size(); end += 1 + end % 7) {
    const Ids so_far(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(end));
    pieces.learn(so_far);
    EXPECT_EQ(pieces.draft(so_far, 4), draft(so_far, 4)) << end;
  }
}

}  // namespace
}  // namespace prompt_lookup_test
}  // namespace hadal::infer
