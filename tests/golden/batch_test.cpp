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
