// Sequences that share forward passes get the bits they would get alone (rules 18 and 47).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "hadal/io/safetensors.h"
#include "hadal/stream/loader.h"

namespace hadal::model {

using stream::LoadedModel;
using stream::load_model;
namespace batch_test {
namespace {

// A prompt and an answer that is forced upon the model, token by token.
struct Sequence {
  std::vector<TokenId> prompt, answer;
  std::span<const TokenId> step(std::size_t i) const {
    return i == 0 ? std::span(prompt) : std::span(&answer[i - 1], 1);
  }
  std::size_t steps() const { return 1 + answer.size(); }
};

// Logits of the main model and of the MTP layer, a row a token.
struct Result {
  std::vector<float> main, mtp;
};

void append(std::vector<float>& to, const ConstTensorRef& rows) {
  to.insert(to.end(), rows.data<float>(), rows.data<float>() + rows.num_elements());
}

// All prompts in one pass, then a pass for each token of the answers that are not yet at their end.
std::vector<Result> compute(const Transformer& t, const std::vector<Sequence>& all, int threads, Isa isa,
                            DType cache = DType::kF32) {
  Context ctx(threads, isa);
  std::vector<SequenceState> states;
  for (std::size_t i = 0; i < all.size(); ++i) states.push_back(t.new_sequence(100, cache));
  std::vector<Result> results(all.size());
  for (std::size_t step = 0;; ++step) {
    std::vector<Segment> segments;
    std::vector<std::size_t> who;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (step >= all[i].steps()) continue;
      segments.push_back({all[i].step(step), states[i], step == 0 ? Form::kExpanded : Form::kAbsorbed});
      who.push_back(i);
    }
    if (segments.empty()) return results;
    const Workspace::Scope scope(ctx.workspace);
    const TensorRef hidden = t.hidden(ctx, segments);
    const TensorRef logits = t.logits(ctx, hidden);
    // The draft of the same token again: any ids do.
    const TensorRef drafted = t.mtp.empty() ? TensorRef() : t.mtp_hidden(ctx, 0, segments, hidden);
    for (Index row = 0, s = 0; s < static_cast<Index>(segments.size()); ++s) {
      const auto end = row + static_cast<Index>(segments[static_cast<std::size_t>(s)].ids.size());
      Result& result = results[who[static_cast<std::size_t>(s)]];
      append(result.main, logits.rows(row, end));
      if (drafted) append(result.mtp, t.mtp_logits(ctx, 0, drafted.rows(row, end)));
      row = end;
    }
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

class Batch : public ::testing::TestWithParam<std::tuple<const char*, Isa>> {
 protected:
  void SetUp() override {
    if (!isa_supported(isa)) GTEST_SKIP() << "this CPU has no " << isa_name(isa);
    const io::SafetensorsFile golden(directory + "/golden.safetensors");
    const ConstTensorRef t = golden.tensor(*golden.find("long.ids"));
    ids.assign(t.data<std::int32_t>(), t.data<std::int32_t>() + t.num_elements());
  }
  Sequence sequence(Index from, Index prompt, Index answer) const {
    const auto begin = ids.begin() + from;
    return {{begin, begin + prompt}, {begin + prompt, begin + prompt + answer}};
  }

  Isa isa = std::get<1>(GetParam());
  std::string directory = std::string(HADAL_TEST_DATA "/golden/models/") + std::get<0>(GetParam());
  LoadedModel model = load_model(directory, {.mtp = true});
  std::vector<TokenId> ids;
};

TEST_P(Batch, Rule18_BitsDoNotDependOnTheOtherSequences) {
  const std::vector<Sequence> all = {sequence(0, 1, 9), sequence(20, 33, 2), sequence(3, 7, 0), sequence(90, 12, 5)};
  std::vector<Result> alone;
  for (const Sequence& s : all) alone.push_back(compute(model.transformer, {s}, 2, isa)[0]);
  for (const int threads : {1, 2, 3}) {
    const std::vector<Result> together = compute(model.transformer, all, threads, isa);
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_TRUE(same_bits(together[i].main, alone[i].main)) << i << " with " << threads << " threads";
      EXPECT_TRUE(same_bits(together[i].mtp, alone[i].mtp)) << i << " with " << threads << " threads, MTP";
    }
  }
}

TEST_P(Batch, Rule18_NorWithACacheInFp8) {
  const std::vector<Sequence> all = {sequence(0, 5, 3), sequence(20, 9, 1)};
  const std::vector<Result> together = compute(model.transformer, all, 2, isa, DType::kF8E4M3);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Result alone = compute(model.transformer, {all[i]}, 1, isa, DType::kF8E4M3)[0];
    EXPECT_TRUE(same_bits(together[i].main, alone.main)) << i;
    EXPECT_FALSE(same_bits(alone.main, compute(model.transformer, {all[i]}, 1, isa)[0].main)) << i;
  }
}

// Keys and values of no layer, of some and of all, beside those of another sequence.
TEST_P(Batch, Rule18_BitsDoNotDependOnWhatAPromptKeepsBetweenItsChunks) {
  const bool slow = isa == Isa::kRef;
  const Transformer& t = model.transformer;
  const config::Config& c = t.config;
  const Index length = slow ? 40 : 90;
  const auto prompt = std::span(ids).first(static_cast<std::size_t>(length));
  const ops::HeadSizes head{c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim};
  const std::uint64_t layer = ops::ExpandedKeys::bytes(head, c.num_attention_heads, length);
  const auto all_layers = static_cast<std::uint64_t>(c.num_hidden_layers);
  for (const DType dtype : slow ? std::vector{DType::kF32} : std::vector{DType::kF32, DType::kF8E4M3}) {
    const std::vector<float> whole = compute(t, {{{prompt.begin(), prompt.end()}, {}}}, 2, isa, dtype)[0].main;
    for (const Index chunk : slow ? std::vector<Index>{25} : std::vector<Index>{7, 32, 45})
      for (const std::uint64_t layers : {std::uint64_t{0}, std::uint64_t{1}, all_layers, 3 * all_layers}) {
        if (slow && layers != 1) continue;
        Context ctx(2, isa);
        const CachePools pools = t.new_pools(dtype, 0, layers * layer);
        SequenceState state(pools, length), other(pools, length);
        std::vector<float> logits;
        for (Index begin = 0; begin < length; begin += chunk) {
          const Index end = std::min(begin + chunk, length), to_come = length - end;
          const auto part = prompt.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
          const std::vector<Segment> segments = {{part, other, Form::kExpanded, to_come},
                                                 {part, state, Form::kExpanded, to_come}};
          const Workspace::Scope scope(ctx.workspace);
          append(logits, t.logits(ctx, t.hidden(ctx, segments)).rows(end - begin, 2 * (end - begin)));
          EXPECT_EQ(pools.main->kept_keys().taken(), to_come == 0 ? 0 : std::min(layers, 2 * all_layers) * layer);
        }
        EXPECT_TRUE(same_bits(logits, whole)) << chunk << " tokens a chunk, " << layers << " layers";
      }
  }
}

TEST_P(Batch, WhatAPromptKeepsIsForgottenWithItsTokens) {
  const Transformer& t = model.transformer;
  Context ctx(1, isa);
  const CachePools pools = t.new_pools(DType::kF32, 0, std::uint64_t{1} << 30);
  SequenceState state(pools, 100), fresh(pools, 100);
  const auto run = [&](SequenceState& s, Index begin, Index end, Index to_come) {
    const Segment segment{
        std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)), s,
        Form::kExpanded, to_come};
    return t.hidden(ctx, std::span(&segment, 1));
  };
  run(state, 0, 40, 20);
  EXPECT_GT(pools.main->kept_keys().taken(), 0u);
  state.truncate(10);
  EXPECT_EQ(pools.main->kept_keys().taken(), 0u);
  // Other tokens in their place; a pass that ends early; then what a fresh sequence gets.
  run(state, 60, 80, 20);
  int asked = 0;
  Poll poll([&] {
    if (++asked == 2) throw Interrupted("enough");
  });
  {
    const Observers::Watch watch(ctx.observers, poll);
    EXPECT_THROW(run(state, 5, 25, 5), Interrupted);
  }
  const TensorRef last = run(state, 80, 100, 0);
  run(fresh, 0, 10, 0);
  run(fresh, 60, 80, 0);
  const TensorRef expected = run(fresh, 80, 100, 0);
  EXPECT_EQ(0, std::memcmp(last.raw(), expected.raw(), static_cast<std::size_t>(expected.num_bytes())));
  run(state, 0, 20, 20);
  {
    const SequenceState gone = std::move(state);
  }
  EXPECT_EQ(pools.main->kept_keys().taken(), 0u);
}

TEST_P(Batch, ASequenceWithoutRoomLeavesAllAsTheyWere) {
  Context ctx(1, isa);
  SequenceState roomy = model.transformer.new_sequence(10), full = model.transformer.new_sequence(2);
  const std::vector<Segment> segments = {{std::span(ids).first(3), roomy, Form::kExpanded},
                                         {std::span(ids).first(3), full, Form::kExpanded}};
  EXPECT_THROW(model.transformer.hidden(ctx, segments), InvalidRequest);
  EXPECT_EQ(roomy.main.length() + full.main.length(), 0);
}

TEST_P(Batch, APassEndsWhenItsPollThrowsAndCanBeRunAgain) {
  Context ctx(1, isa);
  SequenceState state = model.transformer.new_sequence(10), fresh = model.transformer.new_sequence(10);
  int asked = 0;
  Poll poll([&] {
    if (++asked == 2) throw Interrupted("enough");
  });
  const Observers::Watch watch(ctx.observers, poll);
  EXPECT_THROW(model.transformer.hidden(ctx, std::span(ids).first(4), Form::kExpanded, state), Interrupted);
  EXPECT_EQ(state.main.length(), 0);
  const TensorRef again = model.transformer.hidden(ctx, std::span(ids).first(4), Form::kExpanded, state);
  const TensorRef once = model.transformer.hidden(ctx, std::span(ids).first(4), Form::kExpanded, fresh);
  EXPECT_EQ(0, std::memcmp(again.raw(), once.raw(), static_cast<std::size_t>(once.num_bytes())));
}

INSTANTIATE_TEST_SUITE_P(Models, Batch,
                         ::testing::Combine(::testing::Values("v3-tiny", "v3-tiny-fp8", "moonlight-tiny",
                                                              "v2-lite-tiny", "v2-tiny"),
                                            ::testing::Values(Isa::kRef, Isa::kAvx2)),
                         [](const auto& p) {
                           std::string name =
                               std::string(std::get<0>(p.param)) + "_" + std::string(isa_name(std::get<1>(p.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace batch_test
}  // namespace hadal::model
