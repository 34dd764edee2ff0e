#include "hadal/infer/prefix_tree.h"

#include <gtest/gtest.h>

namespace hadal::infer {
namespace prefix_tree_test {
namespace {

using model::CachePools;
using model::Form;
using model::SequenceState;

config::Config tiny() {
  config::Config c;
  c.kv_lora_rank = 6;
  c.qk_rope_head_dim = 2;
  c.num_hidden_layers = 1;
  return c;
}

void append(model::KvCache& cache, Index count, Form form = Form::kExpanded) {
  cache.reserve(count);
  cache.advance(count, form);
}

std::vector<TokenId> ramp(Index count, TokenId from = 0) {
  std::vector<TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(from + static_cast<TokenId>(i));
  return ids;
}

std::vector<TokenId> with(std::vector<TokenId> ids, const std::vector<TokenId>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
  return ids;
}

class PrefixTreeTest : public ::testing::Test {
 protected:
  CachePools pools{tiny(), 0, DType::kF32};
  PrefixTree tree;

  // A sequence computes all of its tokens, gives them to the tree and ends.
  void compute(const std::vector<TokenId>& ids, const std::string& salt = "", Index generated = 0, bool cold = false) {
    SequenceState state(pools, 10000);
    append(state.main, static_cast<Index>(ids.size()) - generated);
    append(state.main, generated, Form::kAbsorbed);
    tree.insert(salt, ids, state, cold);
  }
  Index found(const std::vector<TokenId>& ids, const std::string& salt = "") {
    return tree.find(salt, ids, static_cast<Index>(ids.size())).length;
  }
};

TEST_F(PrefixTreeTest, FindsTheLongestCommonBeginningInsideAPageToo) {
  compute(ramp(300));
  EXPECT_EQ(tree.pages(), 3);
  EXPECT_EQ(pools.main->in_use(), 3);
  EXPECT_EQ(found(ramp(300)), 300);
  EXPECT_EQ(found(ramp(1000)), 300);
  EXPECT_EQ(found(ramp(128)), 128);
  EXPECT_EQ(found(with(ramp(77), {9999})), 77);
  EXPECT_EQ(found(with(ramp(270), ramp(200, 5000))), 270);
  EXPECT_EQ(tree.find("", with(ramp(270), {1}), 271).pages.size(), 3u);
  EXPECT_EQ(found({5, 6}), 0);
}

TEST_F(PrefixTreeTest, BranchesShareWhatIsBeforeThem) {
  SequenceState a(pools, 1000);
  append(a.main, 300);
  tree.insert("", ramp(300), a, false);
  const auto match = tree.find("", ramp(260), 260);
  SequenceState b(pools, 1000);
  b.adopt(match.pages, 260, 260);
  append(b.main, 200);
  tree.insert("", with(ramp(260), ramp(200, 7000)), b, false);
  EXPECT_EQ(tree.pages(), 3 + 2);
  EXPECT_EQ(pools.main->in_use(), 5);
  EXPECT_EQ(found(with(ramp(260), ramp(200, 7000))), 460);
  EXPECT_EQ(found(ramp(300)), 300);
}

TEST_F(PrefixTreeTest, APageThatIsNotWholeIsContinuedByWhoeverMadeIt) {
  SequenceState a(pools, 1000);
  append(a.main, 40);
  tree.insert("", ramp(40), a, false);
  const auto match = tree.find("", ramp(40), 40);
  SequenceState b(pools, 1000);
  b.adopt(match.pages, 30, 30);
  append(a.main, 100);
  EXPECT_EQ(pools.main->in_use(), 2) << "who made it writes behind what others see";
  append(b.main, 1);
  EXPECT_EQ(pools.main->in_use(), 3) << "others copy it";
  a.truncate(35);
  append(a.main, 1);
  EXPECT_EQ(pools.main->in_use(), 3) << "and so does who made it, where others see it: the second page went back";
  EXPECT_EQ(found(ramp(50)), 40);
}

TEST_F(PrefixTreeTest, WhatIsComputedInAnotherFormDoesNotServe) {
  compute(ramp(200), "", 60);
  EXPECT_EQ(found(ramp(200)), 140);
  EXPECT_EQ(tree.find("", ramp(200), 140).length, 200) << "the same request again, preempted";
  EXPECT_EQ(tree.find("", ramp(200), 130).length, 130);
  EXPECT_EQ(tree.find("", ramp(200), std::nullopt).length, 200);
  compute(ramp(200));
  EXPECT_EQ(found(ramp(200)), 200);
  EXPECT_EQ(tree.find("", ramp(200), 140).length, 200);
  EXPECT_EQ(tree.pages(), 3);
}

TEST_F(PrefixTreeTest, SaltsShareNothing) {
  compute(ramp(200), "a");
  EXPECT_EQ(found(ramp(200)), 0);
  EXPECT_EQ(found(ramp(200), "b"), 0);
  EXPECT_EQ(found(ramp(200), "a"), 200);
}

TEST_F(PrefixTreeTest, WhatWasUsedLongestAgoGoesFirstAndFromTheEnd) {
  compute(ramp(256, 1000));
  compute(ramp(256, 2000));
  compute(ramp(100, 3000), "salt");
  compute(ramp(256, 4000), "", 128, true);
  EXPECT_EQ(tree.evictable(), 7);
  EXPECT_EQ(found(ramp(256, 1000)), 256);
  EXPECT_TRUE(tree.evict());
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(found(ramp(256, 4000)), 0) << "what is cold";
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(found(ramp(256, 2000)), 128);
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(found(ramp(100, 3000), "salt"), 0);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(tree.evict());
  EXPECT_FALSE(tree.evict());
  EXPECT_EQ(pools.main->in_use(), 0);
}

TEST_F(PrefixTreeTest, WhatSomebodyUsesStays) {
  compute(ramp(300));
  const auto match = tree.find("", ramp(300), 300);
  SequenceState b(pools, 1000);
  b.adopt(match.pages, 200, 200);
  EXPECT_EQ(tree.evictable(), 1);
  EXPECT_TRUE(tree.evict());
  EXPECT_FALSE(tree.evict());
  b.truncate(0);
  EXPECT_EQ(tree.evictable(), 2);
  tree.clear();
  EXPECT_EQ(pools.main->in_use(), 0);
  EXPECT_EQ(found(ramp(300)), 0);
}

using Lengths = std::pair<Index, Index>;

TEST_F(PrefixTreeTest, MtpGoesAlong) {
  config::Config c = tiny();
  const CachePools with_mtp(c, 2, DType::kF32);
  const auto sequence = [&](Index length) {
    SequenceState state(with_mtp, 10000);
    append(state.main, length);
    append(state.mtp[0], length - 1);
    append(state.mtp[1], length - 2);
    return state;
  };
  SequenceState a = sequence(300);
  PrefixTree both;
  both.insert("", ramp(300), a, false);
  EXPECT_EQ(with_mtp.mtp->in_use(), 6);
  const auto adopted = [&](Index length, Index known) {
    SequenceState b(with_mtp, 10000);
    const auto match = both.find("", ramp(known), known);
    EXPECT_EQ(match.length, known);
    b.adopt(match.pages, length, match.length);
    EXPECT_EQ(b.main.length(), length);
    return Lengths{b.mtp[0].length(), b.mtp[1].length()};
  };
  EXPECT_EQ(adopted(298, 300), (Lengths{298, 298}));
  EXPECT_EQ(adopted(300, 300), (Lengths{299, 298}));
  EXPECT_EQ(adopted(128, 130), (Lengths{128, 128}));
  EXPECT_EQ(adopted(128, 128), (Lengths{127, 126}));
  EXPECT_EQ(adopted(129, 129), (Lengths{128, 127}));
  EXPECT_EQ(adopted(1, 1), (Lengths{0, 0}));
  // Another sequence behind 128 common tokens: the last entries of its first page are its own.
  {
    SequenceState b(with_mtp, 10000);
    const auto match = both.find("", ramp(128), 128);
    b.adopt(match.pages, 128, 128);
    append(b.main, 128);
    append(b.mtp[0], 128);
    append(b.mtp[1], 128);
    EXPECT_EQ(with_mtp.mtp->in_use(), 6 + 4);
    both.insert("", with(ramp(128), ramp(128, 900)), b, false);
  }
  EXPECT_EQ(with_mtp.mtp->in_use(), 6 + 4) << "two pages a depth, the first one differs from the other branch's";
  EXPECT_EQ(adopted(298, 300), (Lengths{298, 298}));
  // One that has no MTP entries, or fewer.
  SequenceState none(with_mtp, 10000);
  append(none.main, 200);
  append(none.mtp[0], 150);
  both.insert("none", ramp(200), none, false);
  SequenceState d(with_mtp, 10000);
  d.adopt(both.find("none", ramp(200), 200).pages, 199, 200);
  EXPECT_EQ(d.mtp[0].length(), 150);
  EXPECT_EQ(d.mtp[1].length(), 0);
}

}  // namespace
}  // namespace prefix_tree_test
}  // namespace hadal::infer
