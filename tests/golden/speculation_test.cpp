// Speculation changes how many passes an answer takes and not a bit of it.
#include "hadal/infer/speculation.h"

#include <gtest/gtest.h>

#include <map>

#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal::infer {
namespace speculation_test {
namespace {

// Tokens and the bits of their log-probabilities.
struct Answer {
  std::vector<TokenId> tokens;
  std::vector<double> logprobs;
  FinishReason reason;
  friend bool operator==(const Answer&, const Answer&) = default;
};

class Speculation : public ::testing::Test {
 protected:
  Context ctx{2};
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini", {.mtp = true});
  SpeculationStats stats;
  Index passes = 0;

  // Prompts that repeat themselves and others; greedy, sampled, with penalties and cut tails; short and long.
  static std::vector<Request> requests() {
    const std::vector<TokenId> text = {0, 4084, 579, 322, 223, 25, 797, 223, 26, 33, 4085, 1061, 14, 334, 998, 322};
    const std::vector<SamplingParams> samplings = {
        {.temperature = 0},
        {.temperature = 0.4, .seed = 1},
        {.temperature = 1, .top_p = 0.9, .seed = 2},
        {.temperature = 1.3, .top_k = 40, .min_p = 0.05, .seed = 3},
        {.temperature = 0.7, .repetition_penalty = 1.3, .seed = 4},
        {.temperature = 0, .presence_penalty = 1, .frequency_penalty = 0.7, .logit_bias = {{223, 2.0}}}};
    std::vector<Request> all;
    for (std::size_t i = 0; i < 12; ++i) {
      Request& r = all.emplace_back();
      r.prompt.assign(text.begin(), text.begin() + 2 + static_cast<Index>(i * 5 % 14));
      if (i % 3 == 0) r.prompt.insert(r.prompt.end(), text.begin(), text.begin() + 9);
      r.sampling = samplings[i % samplings.size()];
      r.sampling.top_logprobs = 2;
      r.max_tokens = static_cast<Index>(1 + i * 7 % 41);
      if (i % 2 == 0) r.stop_token_ids = {1, 16};
      r.choice = i % 2;
    }
    return all;
  }

  std::vector<Answer> run(const std::vector<Request>& requests, EngineOptions options) {
    Engine engine(ctx, model.transformer, options);
    std::map<RequestId, std::size_t> whose;
    for (std::size_t i = 0; i < requests.size(); ++i) whose[engine.submit(requests[i])] = i;
    std::vector<Answer> answers(requests.size());
    for (passes = 0; engine.unfinished() > 0; ++passes)
      for (const TokenEvent& e : engine.step()) {
        answers[whose.at(e.id)].tokens.push_back(e.sample.id);
        answers[whose.at(e.id)].logprobs.push_back(e.sample.logprob);
      }
    for (const auto& [id, i] : whose) {
      const Completion done = engine.take(id);
      EXPECT_EQ(done.tokens, answers[i].tokens);
      answers[i].reason = done.finish_reason;
    }
    stats = engine.speculation();
    return answers;
  }
};

class SpeculationBy : public Speculation, public ::testing::WithParamInterface<Speculate> {};

TEST_P(SpeculationBy, ChangesNoBit) {
  const auto all = requests();
  for (const DType cache : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const auto expected = run(all, {.cache_dtype = cache});
    for (const Index sequences : {1, 5}) {
      const auto got = run(all, {.chunk = 7,
                                 .cache_dtype = cache,
                                 .sequences = sequences,
                                 .speculate = GetParam(),
                                 .fixed_drafts = sequences == 1 ? 3 : 2});
      for (std::size_t i = 0; i < all.size(); ++i)
        EXPECT_EQ(got[i], expected[i]) << "request " << i << ", " << sequences << " sequences";
      ASSERT_GE(stats.drafted.size(), 2u);
      EXPECT_GT(stats.accepted[0], 0);
      EXPECT_GT(stats.accepted[1], 0);
      EXPECT_LT(stats.accepted[0], stats.drafted[0]);
    }
  }
}

// The trained layer guesses well: that is what it is there for (report, 5.4.3).
TEST_F(Speculation, TheModelsOwnLayerIsMostlyRight) {
  run(requests(), {.sequences = 4, .speculate = Speculate::kMtp, .fixed_drafts = 1});
  EXPECT_GT(static_cast<double>(stats.accepted[0]), 0.6 * static_cast<double>(stats.drafted[0]));
}

TEST_F(Speculation, WithoutTheLayerThereIsLookupOnly) {
  model = stream::load_model(HADAL_SOURCE_DIR "/models/mini");
  run(requests(), {.sequences = 4, .speculate = Speculate::kMtp, .fixed_drafts = 1});
  EXPECT_TRUE(stats.drafted.empty());
  run(requests(), {.sequences = 4, .speculate = Speculate::kAuto, .fixed_drafts = 1});
  EXPECT_GT(stats.accepted.at(0), 0);
}

// Every other token even, and the end after some: what a grammar does, and drafts know it.
class Alternating : public grammar::TokenConstraint {
 public:
  bool mask(std::span<std::uint32_t> allowed) override {
    for (std::uint32_t& word : allowed) word &= taken_ % 2 == 0 ? 0x55555555u : 0xaaaaaaaau;
    return true;
  }
  void accept(TokenId token) override {
    EXPECT_EQ(token % 2, taken_ % 2) << taken_;
    ++taken_;
  }
  bool complete() const override { return taken_ == 25; }
  std::unique_ptr<grammar::TokenConstraint> clone() const override { return std::make_unique<Alternating>(*this); }

 private:
  Index taken_ = 0;
};

TEST_F(Speculation, ConstraintsHoldForDraftsToo) {
  std::vector<Request> all = requests();
  const auto constrained = [&] {
    for (Request& r : all) {
      r.constraint = std::make_shared<Alternating>();
      r.max_tokens = 40;
      r.stop_token_ids.clear();
      r.min_tokens = 3;
    }
    return all;
  };
  const auto expected = run(constrained(), {.sequences = 3});
  const auto got = run(constrained(), {.sequences = 3, .speculate = Speculate::kMtp, .fixed_drafts = 3});
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(got[i], expected[i]) << i;
    EXPECT_EQ(got[i].tokens.size(), 25u);
  }
  EXPECT_GT(stats.accepted.at(1), 0);
}

// Whoever stops at a token never gets to know what the same step had behind it.
TEST_F(Speculation, AnAnswerEndsAtTheTokenWhereItIsToldTo) {
  Engine plain(ctx, model.transformer),
      engine(ctx, model.transformer, {.speculate = Speculate::kMtp, .fixed_drafts = 3});
  Request request = requests()[6];
  request.stop_token_ids.clear();
  for (Index at = 1; at < 30; ++at) {
    request.max_tokens = 30 + at % 3;
    Index seen = 0;
    const auto stop = [&](const Sample&) { return ++seen == at ? Continue::kStop : Continue::kYes; };
    const Completion got = engine.generate(request, stop);
    EXPECT_EQ(seen, at);
    EXPECT_EQ(got.finish_reason, FinishReason::kStop);
    seen = 0;
    EXPECT_EQ(got.tokens, plain.generate(request, stop).tokens) << at;
  }
}

// A cached prefix, another turn, another request in the slot: drafts go on.
TEST_F(Speculation, GoesOnBehindACachedPrefix) {
  Engine plain(ctx, model.transformer),
      engine(ctx, model.transformer, {.speculate = Speculate::kMtp, .fixed_drafts = 1});
  Request request = requests()[5];
  request.max_tokens = 12;
  for (int turn = 0; turn < 4; ++turn) {
    const Completion expected = plain.generate(request), got = engine.generate(request);
    EXPECT_EQ(got.tokens, expected.tokens) << turn;
    EXPECT_EQ(got.cached_tokens > 0, turn > 0);
    EXPECT_GT(got.drafted_tokens, 0) << turn;
    request.prompt.insert(request.prompt.end(), got.tokens.begin(), got.tokens.end());
    request.prompt.push_back(4084);
  }
}

INSTANTIATE_TEST_SUITE_P(Sources, SpeculationBy,
                         ::testing::Values(Speculate::kMtp, Speculate::kLookup, Speculate::kAuto),
                         [](const auto& p) { return std::string(speculate_name(p.param)); });

}  // namespace
}  // namespace speculation_test
}  // namespace hadal::infer
