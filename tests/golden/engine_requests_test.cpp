// What a request may ask of the engine beside its tokens, on the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "hadal/core/error.h"
#include "hadal/grammar/forced_tokens.h"
#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal::infer {
namespace engine_requests_test {
namespace {

using Clock = Request::Clock;

class EngineRequests : public ::testing::Test {
 protected:
  Context ctx{2};
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini");
  const std::vector<TokenId> prompt = {0, 4084, 579, 322, 223, 25, 797, 223, 26, 33, 4085};

  Request greedy(Index max_tokens = 16) const {
    return {.prompt = prompt, .sampling = {.temperature = 0}, .max_tokens = max_tokens, .stop_token_ids = {1}};
  }
  Completion alone(const Request& request) { return Engine(ctx, model.transformer).generate(request); }
};

TEST_F(EngineRequests, StopTokensDoNotComeBeforeEnoughOthers) {
  const auto plain = alone(greedy(64));
  ASSERT_EQ(plain.finish_reason, FinishReason::kStop);
  const auto n = static_cast<Index>(plain.tokens.size());
  Request request = greedy(64);
  request.min_tokens = n - 1;
  EXPECT_EQ(alone(request).tokens, plain.tokens) << "the end is beyond them anyway";
  request.min_tokens = n + 3;
  const auto longer = alone(request);
  EXPECT_GE(static_cast<Index>(longer.tokens.size()), n + 3);
  EXPECT_TRUE(std::equal(plain.tokens.begin(), plain.tokens.end() - 1, longer.tokens.begin()));
  EXPECT_EQ(std::count(longer.tokens.begin(), longer.tokens.end() - 1, 1), 0);
  request.max_tokens = 2;
  EXPECT_THROW(alone(request), InvalidRequest);
}

TEST_F(EngineRequests, AConstraintSaysWhatMayComeAndWhenItIsOver) {
  const std::vector<TokenId> forced = {700, 1, 33, 4085, 5};
  for (const Index sequences : {1, 4}) {
    Engine engine(ctx, model.transformer, {.sequences = sequences});
    std::vector<RequestId> ids;
    for (int i = 0; i < 5; ++i) {
      Request request = greedy(8);
      if (i != 2) request.stop_token_ids.clear();
      if (i != 3)
        request.constraint = std::make_shared<grammar::ForcedTokens>(
            forced, i == 4 ? std::make_unique<grammar::ForcedTokens>(std::vector<TokenId>{9, 9}, nullptr) : nullptr);
      ids.push_back(engine.submit(request));
    }
    while (engine.unfinished() > 0) engine.step();
    for (int i = 0; i < 5; ++i) {
      const Completion out = engine.take(ids[static_cast<std::size_t>(i)]);
      if (i == 3) {
        Request request = greedy(8);
        request.stop_token_ids.clear();
        EXPECT_EQ(out.tokens, alone(request).tokens);
      } else if (i == 2) {
        EXPECT_EQ(out.tokens, (std::vector<TokenId>{700, 1}));
      } else {
        EXPECT_TRUE(std::equal(forced.begin(), forced.end(), out.tokens.begin()));
        EXPECT_EQ(out.finish_reason, FinishReason::kLength);
      }
    }
  }
}

// One token and the end, or none at all.
class Once : public grammar::TokenConstraint {
 public:
  explicit Once(int left) : left_(left) {}
  bool mask(std::span<std::uint32_t> allowed) override {
    std::fill(allowed.begin(), allowed.end(), 0u);
    allowed[1] = 3u;
    return true;
  }
  void accept(TokenId token) override {
    EXPECT_TRUE(token == 32 || token == 33) << token;
    --left_;
  }
  bool complete() const override { return left_ == 0; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Once>(left_); }

 private:
  int left_;
};

TEST_F(EngineRequests, AConstraintThatIsCompleteEndsTheAnswer) {
  for (const int left : {0, 1, 2}) {
    Request request = greedy(8);
    request.constraint = std::make_shared<Once>(left);
    request.min_tokens = 5;
    request.stop_token_ids = {32, 33};
    if (left == 2) request.stop_token_ids.clear();
    const auto out = alone(request);
    EXPECT_EQ(out.finish_reason, FinishReason::kStop);
    EXPECT_EQ(static_cast<int>(out.tokens.size()), left);
  }
}

class Broken : public Once {
 public:
  Broken() : Once(3) {}
  bool mask(std::span<std::uint32_t>) override { throw Error("grammar: lost"); }
};

TEST_F(EngineRequests, WhatFailsAloneEndsAlone) {
  Engine engine(ctx, model.transformer, {.sequences = 2});
  Request bad = greedy();
  bad.constraint = std::make_shared<Broken>();
  const RequestId first = engine.submit(bad), second = engine.submit(greedy());
  while (engine.unfinished() > 0) engine.step();
  const Completion failed = engine.take(first);
  EXPECT_EQ(failed.finish_reason, FinishReason::kError);
  EXPECT_EQ(failed.error, "grammar: lost");
  EXPECT_EQ(engine.take(second).tokens, alone(greedy()).tokens);
  EXPECT_THROW(engine.generate(bad), Error);
}

// What a fresh pass over the whole prompt says of each of its tokens.
std::vector<Sample> expected_logprobs(Context& ctx, const model::Transformer& t, const std::vector<TokenId>& ids) {
  const Workspace::Scope scope(ctx.workspace);
  model::SequenceState state = t.new_sequence(static_cast<Index>(ids.size()));
  const auto logits = t.logits(ctx, t.hidden(ctx, ids, model::Form::kExpanded, state)).view<float, 2>();
  std::vector<Sample> all;
  for (Index row = 0; row + 1 < logits.shape[0]; ++row) {
    Sample& s = all.emplace_back(Sample{.id = ids[static_cast<std::size_t>(row) + 1]});
    double most = logits(row, 0), sum = 0;
    for (Index i = 0; i < logits.shape[1]; ++i) most = std::max<double>(most, logits(row, i));
    for (Index i = 0; i < logits.shape[1]; ++i) sum += std::exp(double{logits(row, i)} - most);
    s.logprob = logits(row, s.id) - (most + std::log(sum));
  }
  return all;
}

TEST_F(EngineRequests, LogprobsOfThePromptAreThoseOfAFreshPassWhateverTheChunk) {
  std::vector<TokenId> ids(150);
  for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = 5 + static_cast<TokenId>(t) * 37 % 4000;
  const std::vector<Sample> expected = expected_logprobs(ctx, model.transformer, ids);
  for (const Index chunk : {7, 64, 1000}) {
    Engine engine(ctx, model.transformer, {.chunk = chunk, .sequences = 2});
    Request request = greedy(3);
    request.prompt = ids;
    const RequestId before = engine.submit(request);  // leaves the prompt in the cache
    while (!engine.ended(before)) engine.step();
    request.prompt_logprobs = 2;
    const RequestId a = engine.submit(request);
    engine.submit(greedy());
    request.max_tokens = kNoAnswer;
    request.prompt_logprobs = 0;
    const RequestId b = engine.submit(request);
    while (engine.unfinished() > 0) engine.step();
    const Completion with = engine.take(a), none = engine.take(b);
    EXPECT_EQ(with.tokens, engine.take(before).tokens);
    EXPECT_TRUE(none.tokens.empty());
    ASSERT_EQ(with.prompt_logprobs.size(), ids.size() - 1);
    ASSERT_EQ(none.prompt_logprobs.size(), ids.size() - 1);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(with.prompt_logprobs[i].id, expected[i].id);
      EXPECT_EQ(with.prompt_logprobs[i].logprob, expected[i].logprob) << i << ", chunks of " << chunk;
      EXPECT_EQ(none.prompt_logprobs[i].logprob, expected[i].logprob);
      EXPECT_EQ(with.prompt_logprobs[i].top.size(), 2u);
      EXPECT_GE(with.prompt_logprobs[i].top[0].logprob, with.prompt_logprobs[i].logprob);
      EXPECT_TRUE(none.prompt_logprobs[i].top.empty());
    }
  }
  Request request = greedy();
  request.prompt_logprobs = 21;
  EXPECT_THROW(alone(request), InvalidRequest);
}

TEST_F(EngineRequests, PoolingGivesTheLastHiddenStateOrTheMeanOfAll) {
  std::vector<double> mean;
  std::vector<float> last;
  {
    const Workspace::Scope scope(ctx.workspace);
    model::SequenceState state = model.transformer.new_sequence(100);
    const auto hidden = model.transformer.hidden(ctx, prompt, model::Form::kExpanded, state).view<float, 2>();
    mean.resize(static_cast<std::size_t>(hidden.shape[1]));
    for (Index row = 0; row < hidden.shape[0]; ++row)
      for (Index i = 0; i < hidden.shape[1]; ++i) mean[static_cast<std::size_t>(i)] += hidden(row, i);
    last.assign(hidden.row(hidden.shape[0] - 1), hidden.row(hidden.shape[0] - 1) + hidden.shape[1]);
  }
  for (const Index chunk : {3, 100}) {
    Engine engine(ctx, model.transformer, {.chunk = chunk});
    for (int again = 0; again < 2; ++again) {
      Request request{.prompt = prompt, .max_tokens = kNoAnswer, .pooling = Pooling::kLast};
      EXPECT_EQ(engine.generate(request).embedding, last) << chunk;
      request.pooling = Pooling::kMean;
      const std::vector<float> got = engine.generate(request).embedding;
      ASSERT_EQ(got.size(), mean.size());
      for (std::size_t i = 0; i < got.size(); ++i)
        EXPECT_EQ(got[i], static_cast<float>(mean[i] / static_cast<double>(prompt.size())));
    }
  }
  Request request = greedy();
  request.pooling = Pooling::kLast;
  EXPECT_TRUE(alone(request).tokens.empty()) << "an embedding is no answer";
}

TEST_F(EngineRequests, ADeadlineEndsWhatWaitsAndWhatRuns) {
  Engine engine(ctx, model.transformer);
  Request request = greedy(0);
  request.stop_token_ids.clear();
  const RequestId running = engine.submit(request), waiting = engine.submit(request);
  engine.step();
  request.deadline = Clock::now();
  const RequestId late = engine.submit(request);
  request.deadline = Clock::now() + std::chrono::hours(1);
  const RequestId early = engine.submit(request);
  engine.step();
  EXPECT_EQ(engine.take(late).finish_reason, FinishReason::kDeadline);
  EXPECT_FALSE(engine.ended(waiting) || engine.ended(early) || engine.ended(running));
  for (const RequestId id : {running, waiting, early}) engine.cancel(id);

  request.deadline = Clock::now() + std::chrono::milliseconds(30);
  const RequestId cut = engine.submit(request);
  engine.step();
  std::this_thread::sleep_until(*request.deadline);
  engine.step();
  const Completion out = engine.take(cut);
  EXPECT_EQ(out.finish_reason, FinishReason::kDeadline);
  EXPECT_GE(out.tokens.size(), 1u);
}

TEST_F(EngineRequests, TenantsTakeTurns) {
  Engine engine(ctx, model.transformer);
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) {
    Request request = greedy(1);
    request.tenant = i < 3 ? "a" : "b";
    ids.push_back(engine.submit(request));
  }
  std::vector<RequestId> order;
  while (engine.unfinished() > 0)
    for (const TokenEvent& e : engine.step()) order.push_back(e.id);
  EXPECT_EQ(order, (std::vector<RequestId>{ids[0], ids[3], ids[1], ids[2]}));
}

// Right drafts, wrong ones, and some behind the end: the answer is the one without.
TEST_F(EngineRequests, DraftsChangeNoAnswer) {
  const model::Transformer& t = model.transformer;
  const EngineOptions options = resolve({}, t.config);
  for (const double temperature : {0.0, 1.0}) {
    Request request = greedy(20);
    request.sampling = {.temperature = temperature, .repetition_penalty = 1.1, .seed = 5, .top_logprobs = 0};
    const std::vector<TokenId> expected = alone(request).tokens;
    const model::CachePools pools = t.new_pools(DType::kF32);
    Sequence sequence(pools, options, request);
    std::vector<Sample> got;
    for (Index step = 0; !sequence.ended(); ++step) {
      if (!sequence.in_prompt()) {
        std::vector<TokenId> drafts;
        for (Index i = 0; i < step % 5; ++i) {
          const std::size_t at = got.size() + static_cast<std::size_t>(i);
          drafts.push_back(at < expected.size() && (step % 3 > 0 || i < 2) ? expected[at] : 7);
        }
        sequence.draft(drafts, Speculate::kLookup);
      }
      const Workspace::Scope scope(ctx.workspace);
      const model::Segment segment = sequence.next(100);
      const TensorRef hidden = t.hidden(ctx, std::span(&segment, 1));
      const TensorRef logits = t.logits(ctx, hidden.rows(hidden.size(0) - sequence.sampled_rows(), hidden.size(0)));
      for (const Sample& s : sequence.sample(logits.view<float, 2>())) got.push_back(s);
      EXPECT_TRUE(sequence.ended() || sequence.length() + 1 == sequence.known());
    }
    const Completion out = sequence.take_completion();
    EXPECT_EQ(out.tokens, expected);
    EXPECT_EQ(got.size(), expected.size());
    EXPECT_GT(out.accepted_tokens, 3);
    EXPECT_GT(out.drafted_tokens, out.accepted_tokens);
    std::vector<double> logprobs;
    Engine(ctx, t).generate(request, [&](const Sample& s) { return logprobs.push_back(s.logprob), Continue::kYes; });
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].logprob, logprobs[i]);
  }
}

}  // namespace
}  // namespace engine_requests_test
}  // namespace hadal::infer
