#include "hadal/model/sequence_state.h"

#include <gtest/gtest.h>

namespace hadal::model {
namespace sequence_state_test {
namespace {

config::Config tiny() {
  config::Config c;
  c.kv_lora_rank = 6;
  c.qk_rope_head_dim = 2;
  c.num_hidden_layers = 3;
  return c;
}

void append(KvCache& cache, Index count) {
  cache.reserve(count);
  cache.advance(count, Form::kExpanded);
}

TEST(SequenceState, Rule40_MtpShrinksWithTheMainModel) {
  const CachePools pools(tiny(), 2, DType::kF32);
  SequenceState state(pools, 1000);
  append(state.main, 300);
  append(state.mtp[0], 299);
  append(state.mtp[1], 298);
  state.truncate(290);
  EXPECT_EQ(state.main.length(), 290);
  EXPECT_EQ(state.mtp[0].length(), 289) << "entry 289 was computed from token 290";
  EXPECT_EQ(state.mtp[1].length(), 288);
  state.mtp[0].truncate(5);
  state.truncate(100);
  EXPECT_EQ(state.mtp[0].length(), 5) << "what was not there does not come back";
  EXPECT_EQ(state.mtp[1].length(), 98);
  EXPECT_EQ(pools.main->in_use(), 1);
  EXPECT_EQ(pools.mtp->in_use(), 2);
  state.truncate(0);
  EXPECT_EQ(pools.main->in_use() + pools.mtp->in_use(), 0);
}

TEST(SequenceState, ForksShareEveryDepth) {
  const CachePools pools(tiny(), 1, DType::kF32);
  SequenceState state(pools, 1000);
  append(state.main, 300);
  append(state.mtp[0], 299);
  SequenceState other = state.fork(256);
  EXPECT_EQ(other.main.length(), 256);
  EXPECT_EQ(other.mtp[0].length(), 255);
  EXPECT_EQ(pools.main->in_use(), 3);
  EXPECT_EQ(pools.mtp->in_use(), 3);
  EXPECT_EQ(pools.bytes(), pools.main->page_bytes() * 3 + pools.mtp->page_bytes() * 3);
  append(other.mtp[0], 1);
  EXPECT_EQ(pools.mtp->in_use(), 4) << "a page that is shared in part is copied";
  append(other.main, 1);
  EXPECT_EQ(pools.main->in_use(), 4) << "a whole one is not";
}

}  // namespace
}  // namespace sequence_state_test
}  // namespace hadal::model
