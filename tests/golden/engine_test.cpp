// The engine on the bundled model: what it remembers between requests changes nothing but speed.
#include "hadal/infer/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "hadal/core/error.h"
#include "hadal/stream/loader.h"

namespace hadal::infer {
namespace engine_test {
namespace {

using config::TokenId;

class EngineTest : public ::testing::Test {
 protected:
  Context ctx{2};
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini");

  static Request greedy(std::vector<TokenId> prompt, Index max_tokens = 16) {
    return {
        .prompt = std::move(prompt), .sampling = {.temperature = 0}, .max_tokens = max_tokens, .stop_token_ids = {1}};
  }
};

TEST_F(EngineTest, ContinuesAsTheReferenceDoes) {
  std::ifstream file(HADAL_TEST_DATA "/golden/mini/greedy.jsonl");
  int rows = 0;
  Engine engine(ctx, model.transformer);
  for (std::string line; std::getline(file, line); ++rows) {
    const auto row = nlohmann::json::parse(line);
    const auto out = engine.generate(greedy(row["prompt_ids"].get<std::vector<TokenId>>(), row["max_tokens"]));
    EXPECT_EQ(out.tokens, row["ids"].get<std::vector<TokenId>>()) << line;
    EXPECT_EQ(finish_reason_name(out.finish_reason), row["finish_reason"].get<std::string>());
  }
  EXPECT_GE(rows, 10);
}

TEST_F(EngineTest, ACachedPrefixGivesTheSameTokensAndLogprobs) {
  std::vector<TokenId> prompt = {0, 4084, 579, 322, 223, 25, 797, 223, 26, 33, 4085};
  Request request = greedy(prompt);
  request.sampling = {.temperature = 1, .seed = 4, .top_logprobs = 2};
  std::vector<double> first, second;
  Engine engine(ctx, model.transformer);
  const auto a = engine.generate(request, [&](const Sample& s) { return first.push_back(s.logprob), Continue::kYes; });
  const auto b = engine.generate(request, [&](const Sample& s) { return second.push_back(s.logprob), Continue::kYes; });
  EXPECT_EQ(a.cached_tokens, 0);
  EXPECT_EQ(b.cached_tokens, static_cast<Index>(prompt.size()) - 1);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(first, second);
}

TEST_F(EngineTest, Rule18_GeneratedEntriesServeAgainOnlyWhereAsked) {
  Engine engine(ctx, model.transformer);
  Request request = greedy({0, 4084, 579, 322, 223, 25, 797, 223, 26, 33, 4085});
  const auto answer = engine.generate(request);
  Request next = request;
  next.prompt.insert(next.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  next.prompt.push_back(4084);
  const auto strict = engine.generate(next);
  EXPECT_EQ(strict.cached_tokens, static_cast<Index>(request.prompt.size()));
  engine.reset();
  engine.generate(request);
  next.reuse = CacheReuse::kAny;
  EXPECT_GT(engine.generate(next).cached_tokens, static_cast<Index>(request.prompt.size()));
}

TEST_F(EngineTest, ChunksThreadsAndCacheOrderDoNotChangeAnAnswer) {
  Request request = greedy({0, 4084, 1061, 14, 334, 998, 322, 2280, 16, 4085}, 24);
  request.sampling = {.temperature = 0.9, .top_p = 0.95, .seed = 3};
  Engine reference(ctx, model.transformer);
  const auto expected = reference.generate(request).tokens;
  for (const Index chunk : {1, 3, 100}) {
    Context one(1);
    Engine engine(one, model.transformer, {.chunk = chunk});
    EXPECT_EQ(engine.generate(request).tokens, expected) << chunk;
  }
}

TEST_F(EngineTest, EndsWhereItIsTold) {
  Engine engine(ctx, model.transformer, {.context = 20});
  Request request = greedy({0, 4084, 579}, 0);
  request.stop_token_ids.clear();
  const auto full = engine.generate(request);
  EXPECT_EQ(full.finish_reason, FinishReason::kLength);
  EXPECT_EQ(full.tokens.size(), 18u);
  int seen = 0;
  EXPECT_EQ(engine.generate(request, [&](const Sample&) { return ++seen < 4 ? Continue::kYes : Continue::kCancel; })
                .finish_reason,
            FinishReason::kCancelled);
  EXPECT_EQ(seen, 4);
  EXPECT_EQ(engine.generate(request, {}, [](Index, Index) { return false; }).finish_reason, FinishReason::kCancelled);
}

// Requests come while others run, some are cancelled, all answers that end are those of requests alone.
TEST_F(EngineTest, AnswersDependOnNobodyElse) {
  const std::vector<TokenId> text = {0, 4084, 579, 322, 223, 25, 797, 223, 26, 33, 4085, 1061, 14, 334, 998, 322};
  std::vector<Request> all;
  for (std::size_t i = 0; i < 12; ++i) {
    Request& r = all.emplace_back(greedy({text.begin(), text.begin() + 2 + static_cast<Index>(i * 5 % 14)}));
    r.sampling = {.temperature = 0.9, .seed = i % 3};
    r.max_tokens = static_cast<Index>(2 + i * 7 % 11);
    r.choice = i % 2;
  }
  std::vector<std::vector<TokenId>> alone;
  for (const Request& r : all) alone.push_back(Engine(ctx, model.transformer).generate(r).tokens);
  for (const Index sequences : {1, 3, 8})
    for (const Index chunk : {2, 5, 100}) {
      Engine engine(ctx, model.transformer, {.chunk = chunk, .sequences = sequences});
      std::map<RequestId, std::size_t> whose;
      std::map<std::size_t, std::vector<TokenId>> tokens, answers;
      for (std::size_t step = 0; step < 500 && answers.size() < all.size(); ++step) {
        // Submitted from the last one on, two at first, then one every other step.
        if (whose.size() < all.size() && (step % 2 == 0 || step == 1)) {
          const std::size_t i = all.size() - 1 - whose.size();
          whose[engine.submit(all[i])] = i;
        }
        for (const TokenEvent& e : engine.step()) tokens[whose.at(e.id)].push_back(e.sample.id);
        if (step == 9)
          for (const auto& [id, i] : whose)
            if (i % 4 == 1) engine.cancel(id);
        for (const auto& [id, i] : whose) {
          if (!engine.ended(id)) continue;
          const Completion done = engine.take(id);
          answers[i] = done.tokens;
          if (done.finish_reason == FinishReason::kCancelled)
            EXPECT_TRUE(std::equal(done.tokens.begin(), done.tokens.end(), alone[i].begin()));
          else
            EXPECT_EQ(done.tokens, alone[i]) << i << ", " << sequences << " sequences, chunks of " << chunk;
        }
      }
      EXPECT_EQ(answers.size(), all.size());
      EXPECT_EQ(engine.unfinished(), 0);
      for (const auto& [i, answer] : answers) EXPECT_EQ(tokens[i], answer) << i;
    }
}

TEST_F(EngineTest, WhatWaitsOrHasEndedCanBeCancelledToo) {
  Engine engine(ctx, model.transformer);
  const RequestId first = engine.submit(greedy({0, 4084, 579}, 1)), second = engine.submit(greedy({0, 4084}, 4));
  engine.cancel(second);
  EXPECT_EQ(engine.take(second).finish_reason, FinishReason::kCancelled);
  const auto events = engine.step();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(events[0].ended);
  engine.end(first, FinishReason::kStop);  // a stop string in the token that was the last one anyway
  EXPECT_EQ(engine.take(first).finish_reason, FinishReason::kStop);
  EXPECT_THROW(engine.take(first), Error);
  engine.cancel(first);
  engine.cancel(99);
  EXPECT_TRUE(engine.step().empty());
}

// Six sequences in two or three pages: what has ended gives way, what could need more than there is waits or is
// refused.
TEST_F(EngineTest, FewPagesMakeRequestsWaitAndChangeNoAnswer) {
  std::vector<Request> all;
  for (TokenId i = 0; i < 6; ++i) {
    std::vector<TokenId> prompt(static_cast<std::size_t>(100 + 9 * i));
    for (std::size_t t = 0; t < prompt.size(); ++t) prompt[t] = 5 + static_cast<TokenId>(t) * (i + 3) % 4000;
    all.push_back(greedy(prompt, 6 + i));
  }
  for (const Index pages : {2, 3}) {
    Engine engine(ctx, model.transformer, {.chunk = 64, .sequences = 3, .max_pages = pages});
    std::vector<RequestId> ids;
    for (const Request& r : all) ids.push_back(engine.submit(r));
    EXPECT_EQ(engine.unfinished(), 6);
    while (engine.unfinished() > 0) engine.step();
    for (std::size_t i = 0; i < all.size(); ++i)
      EXPECT_EQ(engine.take(ids[i]).tokens, Engine(ctx, model.transformer).generate(all[i]).tokens) << i;
    EXPECT_THROW(engine.submit(greedy(all[0].prompt, pages * 128)), InvalidRequest);
  }
}

TEST_F(EngineTest, Rule18_WhatPromptsKeepChangesNoAnswer) {
  std::vector<Request> all;
  for (TokenId i = 0; i < 3; ++i) {
    std::vector<TokenId> prompt(static_cast<std::size_t>(300 + 70 * i));
    for (std::size_t t = 0; t < prompt.size(); ++t) prompt[t] = 5 + static_cast<TokenId>(t) * (i + 3) % 4000;
    all.push_back(greedy(prompt, 6));
  }
  for (const std::uint64_t kept : {std::uint64_t{0}, std::uint64_t{4} << 20, std::uint64_t{1} << 30}) {
    Engine engine(ctx, model.transformer, {.chunk = 100, .sequences = 2, .kept_bytes = kept});
    std::vector<RequestId> ids;
    for (const Request& r : all) ids.push_back(engine.submit(r));
    const RequestId cancelled = engine.submit(all[2]);
    while (engine.unfinished() > 1) engine.step();
    engine.step();
    engine.cancel(cancelled);
    for (std::size_t i = 0; i < all.size(); ++i)
      EXPECT_EQ(engine.take(ids[i]).tokens, Engine(ctx, model.transformer).generate(all[i]).tokens) << i << " " << kept;
    EXPECT_EQ(engine.kept_bytes(), 0u);
  }
}

TEST_F(EngineTest, AStepThatFailsLeavesAllWhereTheyWere) {
  Engine engine(ctx, model.transformer, {.chunk = 4, .sequences = 2});
  const Request request = greedy({0, 4084, 1061, 14, 334, 998, 322, 2280, 16, 4085}, 8);
  const RequestId a = engine.submit(request), b = engine.submit(request);
  int polls = 0;
  Poll poll([&] {
    if (++polls % 3 == 0) throw Interrupted("enough");
  });
  {
    const Observers::Watch watch(ctx.observers, poll);
    for (int step = 0; engine.unfinished() > 0 && step < 200; ++step) try {
        engine.step();
      } catch (const Interrupted&) {
      }
  }
  while (engine.unfinished() > 0) engine.step();
  const std::vector<TokenId> expected = Engine(ctx, model.transformer).generate(request).tokens;
  EXPECT_EQ(engine.take(a).tokens, expected);
  EXPECT_EQ(engine.take(b).tokens, expected);
}

TEST_F(EngineTest, BadRequestsAreSentences) {
  Engine engine(ctx, model.transformer, {.context = 8});
  EXPECT_THROW(engine.generate(greedy({})), InvalidRequest);
  EXPECT_THROW(engine.generate(greedy({0, 4096})), InvalidRequest);
  EXPECT_THROW(engine.generate(greedy({0, -1})), InvalidRequest);
  try {
    engine.generate(greedy(std::vector<TokenId>(9, 5)));
    FAIL();
  } catch (const InvalidRequest& e) {
    EXPECT_NE(std::string(e.what()).find("9 tokens are more than the context of 8"), std::string::npos) << e.what();
  }
  EXPECT_THROW(Engine(ctx, model.transformer, {.context = 5000}), Error);
}

TEST_F(EngineTest, ABf16CacheStaysCloseToTheF32One) {
  Engine half(ctx, model.transformer, {.cache_dtype = DType::kBF16});
  const auto out = half.generate(greedy({0, 4084, 579, 322, 263, 892, 277, 2771, 33, 4085}, 24));
  EXPECT_EQ(out.tokens, (std::vector<TokenId>{457, 892, 277, 2771, 322, 1757, 275, 16, 1}));
}

}  // namespace
}  // namespace engine_test
}  // namespace hadal::infer
