// The engine for many requests on the bundled model: the answers are those of the engine for one.
#include "hadal/infer/batch_engine.h"

#include <gtest/gtest.h>

#include <map>

#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal::infer {
namespace batch_engine_test {
namespace {

class BatchEngineTest : public ::testing::Test {
 protected:
  Context ctx{2};
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini");

  // Prompts of different lengths, some with a common beginning, answers of different lengths.
  static std::vector<Request> requests() {
    const std::vector<TokenId> text = {0, 4084, 579, 322, 223, 25, 797, 223, 26, 33, 4085};
    std::vector<Request> all;
    for (std::size_t i = 0; i < 7; ++i) {
      Request& r = all.emplace_back();
      r.prompt.assign(text.begin(), text.begin() + 2 + static_cast<Index>(i * 5 % 9));
      r.sampling = {.temperature = 0.8, .seed = i, .top_logprobs = 1};
      r.max_tokens = static_cast<Index>(1 + i * 4 % 13);
      r.stop_token_ids = {1};
    }
    return all;
  }
};

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<double> logprobs;
  FinishReason reason = FinishReason::kCancelled;
  friend bool operator==(const Answer&, const Answer&) = default;
};

TEST_F(BatchEngineTest, Rule47_AnswersDoNotDependOnTheBatch) {
  const std::vector<Request> all = requests();
  std::vector<Answer> alone(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto out = Engine(ctx, model.transformer).generate(all[i], [&](const Sample& s) {
      return alone[i].logprobs.push_back(s.logprob), Continue::kYes;
    });
    alone[i].tokens = out.tokens;
    alone[i].reason = out.finish_reason;
  }
  for (const Index batch : {1, 2, 5, 20})
    for (const Index chunk : {3, 1024}) {
      std::vector<Answer> got(all.size());
      BatchEngine engine(ctx, model.transformer, {.chunk = chunk}, batch);
      engine.generate(
          all, [&](std::size_t i, const Sample& s) { return got[i].logprobs.push_back(s.logprob), Continue::kYes; },
          [&](std::size_t i, const Completion& c) {
            got[i].tokens = c.tokens;
            got[i].reason = c.finish_reason;
          });
      EXPECT_EQ(got, alone) << "batch " << batch << ", chunk " << chunk;
    }
}

TEST_F(BatchEngineTest, BadRequestsAreKnownBeforeAnythingIsComputed) {
  std::vector<Request> all = requests();
  all.back().prompt.assign(9, 5);
  int seen = 0;
  BatchEngine engine(ctx, model.transformer, {.context = 8}, 2);
  EXPECT_THROW(engine.generate(
                   all, [&](std::size_t, const Sample&) { return ++seen, Continue::kYes; },
                   [](std::size_t, const Completion&) {}),
               InvalidRequest);
  EXPECT_EQ(seen, 0);
  EXPECT_THROW(BatchEngine(ctx, model.transformer, {}, 0), Error);
}

TEST_F(BatchEngineTest, CallersEndSingleAnswersAndThePollEndsAll) {
  const std::vector<Request> all(
      3, Request{.prompt = {0, 4084}, .sampling = {.temperature = 0}, .max_tokens = 6, .stop_token_ids = {}});
  std::map<std::size_t, Completion> done;
  const auto keep = [&](std::size_t i, const Completion& c) { done[i] = c; };
  BatchEngine engine(ctx, model.transformer, {}, 3);
  engine.generate(
      all,
      [](std::size_t i, const Sample&) {
        return i == 0 ? Continue::kStop : i == 1 ? Continue::kCancel : Continue::kYes;
      },
      keep);
  EXPECT_EQ(done[0].finish_reason, FinishReason::kStop);
  EXPECT_EQ(done[1].finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(done[2].finish_reason, FinishReason::kLength);
  EXPECT_EQ(done[1].tokens.size(), 1u);

  const std::vector<TokenId> expected = done[2].tokens;
  done.clear();
  int polls = 0;
  Poll poll([&] {
    if (++polls == 10) throw Interrupted("enough");
  });
  const Observers::Watch watch(ctx.observers, poll);
  EXPECT_THROW(engine.generate(all, {}, keep), Interrupted);
  EXPECT_TRUE(done.empty());
  engine.generate(all, {}, keep);
  for (const auto& [i, completion] : done) EXPECT_EQ(completion.tokens, expected) << i;
  EXPECT_EQ(done.size(), 3u);
}

TEST_F(BatchEngineTest, ThePollEndsASingleAnswerAsCancelled) {
  Engine engine(ctx, model.transformer);
  const Request request{
      .prompt = {0, 4084, 579}, .sampling = {.temperature = 0}, .max_tokens = 6, .stop_token_ids = {}};
  int polls = 0;
  Poll poll([&] {
    if (++polls == 10) throw Interrupted("enough");
  });
  const Observers::Watch watch(ctx.observers, poll);
  EXPECT_EQ(engine.generate(request).finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(engine.generate(request).tokens, Engine(ctx, model.transformer).generate(request).tokens);
}

}  // namespace
}  // namespace batch_engine_test
}  // namespace hadal::infer
