#include "hadal/stream/expert_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "hadal/stream/loader.h"

namespace hadal::stream {

using model::Block;
using model::FeedForward;
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Two MoE layers of 8 experts, 3 a token.
class Store : public ::testing::Test {
 protected:
  ExpertStore& open(std::uint64_t slots) {
    for (Block& block : in_memory.transformer.layers)
      if (block.moe) layers.push_back(block.moe->experts);
    const std::uint64_t bytes = lay_out(layers[0][0], *in_memory.files).bytes;
    // The reserve for the program is a sixteenth.
    const std::uint64_t memory = (slots * bytes + bytes / 2) * 16 / 15;
    store = std::make_unique<ExpertStore>(*in_memory.files, layers, 3,
                                          ExpertStoreOptions{.memory = memory, .counts_file = {}});
    return *store;
  }
  std::vector<Index> all(Index layer, std::vector<Index> needed) {
    std::vector<Index> seen;
    auto lease = store->acquire(layer, std::move(needed));
    for (auto wave = lease.next(); !wave.empty(); wave = lease.next())
      for (const Index e : wave) {
        seen.push_back(e);
        expect_bytes_of(layer, e, lease.weights()[static_cast<std::size_t>(e)]);
      }
    std::sort(seen.begin(), seen.end());
    return seen;
  }
  void expect_bytes_of(Index layer, Index e, const ops::FeedForwardRef& got) {
    const FeedForward& wanted = layers[static_cast<std::size_t>(layer)][static_cast<std::size_t>(e)];
    for (const auto& [a, b] : {std::pair(got.gate_proj, &wanted.gate_proj.weight),
                               {got.up_proj, &wanted.up_proj.weight},
                               {got.down_proj, &wanted.down_proj.weight}}) {
      ASSERT_TRUE(a);
      EXPECT_NE(a->values.raw(), b->values.raw());
      EXPECT_EQ(std::memcmp(a->values.raw(), b->values.raw(), static_cast<std::size_t>(b->values.num_bytes())), 0);
    }
  }

  LoadedModel in_memory = load_model(HADAL_TEST_DATA "/golden/models/moonlight-tiny");
  std::vector<std::span<FeedForward>> layers;
  std::unique_ptr<ExpertStore> store;
};

TEST_F(Store, EveryExpertComesWithItsOwnBytesHoweverFewSlots) {
  open(6);
  EXPECT_THAT(all(0, {0, 1, 2, 3, 4, 5, 6, 7}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(all(1, {2, 5}), ElementsAre(2, 5));
  EXPECT_THAT(all(1, {}), IsEmpty());
  EXPECT_EQ(store->stats().misses, 10u);
}

TEST_F(Store, WhatWasUsedLastStays) {
  open(6);
  all(0, {0, 1, 2, 3, 4, 5});
  all(0, {0, 1, 2});
  EXPECT_EQ(store->stats().hits, 3u);
  all(1, {0, 1, 2});  // displaces 3, 4, 5
  all(0, {0, 1, 2});
  EXPECT_EQ(store->stats().hits, 6u);
  all(0, {3, 4, 5});
  EXPECT_EQ(store->stats().hits, 6u);
}

TEST_F(Store, GuessesAreJudgedByTheirLayer) {
  open(12);
  const std::vector<Index> guess = {4, 5};
  store->prefetch(1, guess);
  store->prefetch(1, guess);  // on its way already
  EXPECT_EQ(store->stats().prefetched, 2u);
  all(0, {0, 1});
  EXPECT_EQ(store->stats().prefetch_used, 0u);
  EXPECT_THAT(all(1, {5, 6}), ElementsAre(5, 6));
  EXPECT_EQ(store->stats().prefetch_used, 1u);
  EXPECT_THAT(all(1, {4, 5, 6, 7}), ElementsAre(4, 5, 6, 7));
}

TEST_F(Store, GuessesNeverKeepALayerFromItsExperts) {
  open(6);
  for (int round = 0; round < 20; ++round) {
    const std::vector<Index> guess = {round % 8, (round + 3) % 8, (round + 5) % 8};
    store->prefetch(round % 2, guess);
    EXPECT_THAT(all(round % 2, {1, 2, 6, 7}), ElementsAre(1, 2, 6, 7));
    store->prefetch(1, guess);
    EXPECT_THAT(all(0, {0, 1, 2, 3, 4, 5, 6, 7}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  }
}

TEST_F(Store, ALeaseThatIsGivenUpEarlyLeavesNothingBehind) {
  open(6);
  {
    auto lease = store->acquire(0, {0, 1, 2, 3, 4, 5, 6, 7});
  }
  {
    auto lease = store->acquire(0, {0, 1, 2, 3, 4, 5, 6, 7});
    lease.next();
  }
  EXPECT_THAT(all(1, {0, 1, 2, 3, 4, 5, 6, 7}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST_F(Store, ShrinksForTheSequenceAndGrowsAgain) {
  open(12);
  const std::uint64_t bytes = store->stats().expert_bytes, allowed = std::uint64_t{16} << 20;
  all(0, {0, 1, 2, 3, 4, 5, 6, 7});
  store->begin_pass(allowed + 9 * bytes);
  EXPECT_EQ(store->stats().slots, 3);
  EXPECT_THAT(all(1, {0, 1, 2, 3, 4, 5, 6, 7}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THROW(store->begin_pass(allowed + 14 * bytes), Error);
  // Prompts and answers take turns: what one needs is not given and taken each time.
  for (int turn = 0; turn < 100; ++turn) {
    store->begin_pass(turn % 3 == 0 ? allowed + 9 * bytes : 0);
    EXPECT_EQ(store->stats().slots, 3);
  }
  for (int pass = 0; pass < 128; ++pass) store->begin_pass(0);
  EXPECT_EQ(store->stats().slots, 12);
  EXPECT_THAT(all(0, {0, 1, 2, 3, 4, 5, 6, 7}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST_F(Store, TooFewSlotsAreRefused) {
  EXPECT_THROW(open(5), Error);
}

TEST(ExpertLayout, NeighboursInTheFileAreOneRead) {
  LoadedModel model = load_model(HADAL_TEST_DATA "/golden/models/v3-tiny-fp8");
  const io::CheckpointFiles& files = *model.files;
  for (Block& block : model.transformer.layers) {
    if (!block.moe) continue;
    for (const FeedForward& expert : block.moe->experts) {
      const ExpertLayout layout = lay_out(expert, files);
      EXPECT_LT(layout.ranges.size(), 6u);
      EXPECT_EQ(layout.places.size(), 6u);  // three matrices, three grids of scales
      for (const auto& range : layout.ranges) {
        EXPECT_EQ(range.offset() % 4096, 0u);
        EXPECT_EQ(range.bytes() % 4096, 0u);
        EXPECT_LE(range.at + range.bytes(), layout.bytes);
      }
    }
  }
}

}  // namespace
}  // namespace hadal::stream
