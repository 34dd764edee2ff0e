// What sequences share, give up and compute again changes no bit of an answer: small random models, every kind of
// cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal::infer {
namespace engine_memory_test {
namespace {

using stream::load_model;
using stream::LoadedModel;

const std::string kModels = HADAL_TEST_DATA "/golden/models/";

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<double> logprobs, of_prompt;
  friend bool operator==(const Answer&, const Answer&) = default;
};

Answer answer_of(const Completion& completion, std::vector<double> logprobs) {
  Answer answer{completion.tokens, std::move(logprobs), {}};
  for (const Sample& s : completion.prompt_logprobs) answer.of_prompt.push_back(s.logprob);
  return answer;
}

std::vector<TokenId> some_ids(Index count, Index vocab, Index salt) {
  std::vector<TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<TokenId>((i * 7919 + i * i * 31 + salt * 977) % vocab));
  return ids;
}

// Prompts with a common beginning of 140 tokens and others, answers of different lengths; some ask for more.
std::vector<Request> mixed_requests(Index vocab, Index count) {
  std::vector<Request> all;
  const std::vector<TokenId> common = some_ids(140, vocab, 0);
  for (Index i = 0; i < count; ++i) {
    Request& r = all.emplace_back();
    if (i % 4 != 3) r.prompt = common;
    const auto own = some_ids(1 + i * 37 % 60, vocab, i % 5);
    r.prompt.insert(r.prompt.end(), own.begin(), own.end());
    r.sampling = {.temperature = i % 3 * 0.7, .seed = static_cast<std::uint64_t>(i / 2), .top_logprobs = 0};
    r.max_tokens = 3 + i * 11 % 17;
    r.choice = static_cast<std::uint64_t>(i % 2);
    r.priority = static_cast<int>(i % 3 == 0);
    r.tenant = std::to_string(i % 2);
    if (i % 7 == 2) r.prompt_logprobs = 0;
    if (i % 5 == 4) r.cache_salt = "other";
  }
  return all;
}

std::vector<Answer> alone(Context& ctx, const model::Transformer& t, const EngineOptions& options,
                          const std::vector<Request>& all) {
  std::vector<Answer> answers;
  for (const Request& r : all) {
    std::vector<double> logprobs;
    const Completion done = Engine(ctx, t, options).generate(r, [&](const Sample& s) {
      return logprobs.push_back(s.logprob), Continue::kYes;
    });
    answers.push_back(answer_of(done, std::move(logprobs)));
  }
  return answers;
}

// Submitted in a random order, a few at a time.
std::vector<Answer> together(Engine& engine, const std::vector<Request>& all, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::size_t> order(all.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  std::map<RequestId, std::size_t> whose;
  std::map<RequestId, std::vector<double>> logprobs;
  std::vector<Answer> answers(all.size());
  std::size_t next = 0;
  for (int steps = 0; next < order.size() || engine.unfinished() > 0; ++steps) {
    if (steps > 5000) {
      ADD_FAILURE() << "no end";
      break;
    }
    for (auto n = random() % 4; n > 0 && next < order.size(); --n, ++next)
      whose[engine.submit(all[order[next]])] = order[next];
    for (const TokenEvent& e : engine.step()) logprobs[e.id].push_back(e.sample.logprob);
  }
  for (const auto& [id, i] : whose) answers[i] = answer_of(engine.take(id), logprobs[id]);
  return answers;
}

class EngineMemory : public ::testing::TestWithParam<std::tuple<const char*, DType>> {
 protected:
  Context ctx{2};
  LoadedModel model = load_model(kModels + std::get<0>(GetParam()));
  const model::Transformer& t = model.transformer;
  EngineOptions options{.context = 256, .cache_dtype = std::get<1>(GetParam())};
};

TEST_P(EngineMemory, Rule18_BitsAreIndependentOfWhatIsSharedGivenUpAndComputedAgain) {
  const std::vector<Request> all = mixed_requests(t.config.vocab_size, 9);
  const std::vector<Answer> expected = alone(ctx, t, options, all);
  Index preempted = 0, cached = 0;
  unsigned seed = 1;
  const std::pair<Index, Index> cases[] = {{1024, 0}, {64, 9}, {7, 5}, {30, 2}};
  for (const auto& [chunk, pages] : cases) {
    Context other(1 + static_cast<int>(seed % 3));
    EngineOptions o = options;
    o.chunk = chunk;
    o.max_pages = pages;
    o.sequences = 3 + seed % 5;
    Engine engine(other, t, o);
    EXPECT_EQ(together(engine, all, seed), expected) << "chunks of " << chunk << ", " << pages << " pages, cold";
    EXPECT_EQ(together(engine, all, seed + 1), expected) << "chunks of " << chunk << ", " << pages << " pages, warm";
    preempted += engine.preemptions();
    Request again = all[1];
    again.max_tokens = 1;
    cached += engine.generate(again).cached_tokens;
    ++seed;
  }
  EXPECT_GT(preempted, 0);
  EXPECT_GT(cached, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, EngineMemory,
                         ::testing::Values(std::tuple("v3-tiny", DType::kF32), std::tuple("v3-tiny", DType::kBF16),
                                           std::tuple("v3-tiny-fp8", DType::kF8E4M3),
                                           std::tuple("moonlight-tiny", DType::kF32)),
                         [](const auto& p) {
                           std::string name =
                               std::string(std::get<0>(p.param)) + "_" + std::string(dtype_name(std::get<1>(p.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class EngineSharing : public ::testing::Test {
 protected:
  Context ctx{2};
  LoadedModel model = load_model(kModels + "v3-tiny");
  const model::Transformer& t = model.transformer;

  Request with(Index prompt, Index own, Index max_tokens = 2) const {
    Request r{.prompt = some_ids(prompt, t.config.vocab_size, 0)};
    const auto more = some_ids(own, t.config.vocab_size, own);
    r.prompt.insert(r.prompt.end(), more.begin(), more.end());
    r.max_tokens = max_tokens;
    return r;
  }
  // Tokens of prompts that were not computed.
  static Index cached(Engine& engine, const std::vector<RequestId>& ids) {
    while (engine.unfinished() > 0) engine.step();
    Index all = 0;
    for (const RequestId id : ids) all += engine.take(id).cached_tokens;
    return all;
  }
};

TEST_F(EngineSharing, ACommonPromptOfRequestsThatComeTogetherIsComputedOnce) {
  for (const Index chunk : {50, 1024}) {
    Engine engine(ctx, t, {.context = 400, .chunk = chunk, .sequences = 8});
    std::vector<RequestId> ids;
    for (Index i = 0; i < 6; ++i) ids.push_back(engine.submit(with(200, 5 + i)));
    const Index first = cached(engine, ids);
    EXPECT_GE(first, 5 * 128) << chunk;
    // The same prompt for several answers: all of it but for the last token.
    Engine choices(ctx, t, {.context = 400, .chunk = chunk, .sequences = 8});
    ids.clear();
    for (Index i = 0; i < 6; ++i) ids.push_back(choices.submit(with(200, 5)));
    EXPECT_EQ(cached(choices, ids), 5 * 204) << chunk;
  }
}

TEST_F(EngineSharing, WhoWaitsForAPromptGoesOnWhenItIsCancelled) {
  Engine engine(ctx, t, {.context = 400, .chunk = 20, .sequences = 8});
  const RequestId first = engine.submit(with(300, 5)), second = engine.submit(with(300, 6));
  for (int i = 0; i < 8; ++i) engine.step();
  EXPECT_EQ(engine.tokens_done(second), 0);
  engine.cancel(first);
  engine.take(first);
  engine.step();
  EXPECT_GE(engine.tokens_done(second), 160);
  EXPECT_EQ(cached(engine, {second}), 160);
}

TEST_F(EngineSharing, ThoseWhoWaitedForOneThatIsCancelledDoNotWaitForEachOther) {
  Engine engine(ctx, t, {.context = 400, .chunk = 20, .sequences = 8});
  std::vector<RequestId> ids;
  for (Index i = 0; i < 4; ++i) ids.push_back(engine.submit(with(300, 5 + i)));
  for (int i = 0; i < 3; ++i) engine.step();
  engine.cancel(ids[0]);
  for (int i = 0; i < 100 && engine.unfinished() > 0; ++i) engine.step();
  ASSERT_EQ(engine.unfinished(), 0);
  for (Index i = 1; i < 4; ++i)
    EXPECT_EQ(engine.take(ids[static_cast<std::size_t>(i)]).tokens,
              Engine(ctx, t, {.context = 400}).generate(with(300, 5 + i)).tokens);
}

TEST_F(EngineSharing, MoreUrgentOnesWaitForNobody) {
  Engine engine(ctx, t, {.context = 400, .chunk = 20, .sequences = 8});
  const RequestId first = engine.submit(with(200, 5));
  Request urgent = with(200, 6);
  urgent.priority = -1;
  const RequestId second = engine.submit(urgent);
  engine.step();
  EXPECT_EQ(engine.tokens_done(second), 20);
  EXPECT_EQ(cached(engine, {first, second}), 128);
}

TEST_F(EngineSharing, NoStepRunsMoreThanAChunkWhileOthersDecode) {
  Engine engine(ctx, t, {.context = 1000, .chunk = 100, .sequences = 4});
  const RequestId stream = engine.submit(with(0, 30, 900));
  while (engine.tokens_done(stream) < 40) engine.step();
  const RequestId prompt = engine.submit(with(900, 5, 3));
  for (Index done = 0; done < 900;) {
    engine.step();
    const Index now = engine.tokens_done(prompt);
    ASSERT_LE(now - done, 100) << "behind " << done;
    done = now;
  }
}

TEST_F(EngineSharing, StreamsGoOnWhileALongPromptIsComputed) {
  Engine alone(ctx, t, {.context = 1000});
  const std::vector<TokenId> expected = alone.generate(with(900, 5, 3)).tokens;
  for (const bool cancelled : {false, true}) {
    Engine engine(ctx, t, {.context = 1000, .sequences = 4});
    const RequestId stream = engine.submit(with(0, 30, 600));
    while (engine.tokens_done(stream) < 40) engine.step();
    const RequestId prompt = engine.submit(with(900, 5, 3)), other = engine.submit(with(500, 100, 2));
    int between = 0, passes = 0;
    for (bool answered = false; !answered; ++passes)
      for (const TokenEvent& e : engine.step()) {
        between += e.id == stream;
        answered = answered || e.id == prompt || e.id == other;
        if (cancelled && passes == 1) engine.cancel(other);
      }
    EXPECT_GE(between, 3) << "one at least for each layer";
    while (!engine.ended(prompt)) engine.step();
    EXPECT_EQ(engine.take(prompt).tokens, expected);
    while (!engine.ended(other)) engine.step();
    const Completion of_other = engine.take(other);
    if (cancelled) {
      EXPECT_EQ(of_other.finish_reason, FinishReason::kCancelled);
    } else {
      EXPECT_EQ(of_other.tokens, Engine(ctx, t, {.context = 1000}).generate(with(500, 100, 2)).tokens);
    }
    engine.cancel(stream);
    const std::vector<TokenId> said = engine.take(stream).tokens;
    Request same = with(0, 30, static_cast<Index>(said.size()));
    EXPECT_EQ(said, alone.generate(same).tokens);
  }
}

TEST_F(EngineSharing, IdleWorkIsDoneBeforeItIsAskedForAndGivesWay) {
  Engine engine(ctx, t, {.context = 1000, .chunk = 200, .sequences = 4});
  const Request request = with(500, 5);
  engine.prefill(request.prompt);
  while (engine.unfinished() > 0) EXPECT_TRUE(engine.step().empty());
  EXPECT_EQ(cached(engine, {engine.submit(request)}), 504);
  Request salted = request;
  salted.cache_salt = "x";
  engine.prefill(salted.prompt, "x");
  for (int i = 0; i < 40 && engine.unfinished() > 0; ++i) engine.step();
  const RequestId id = engine.submit(salted);
  EXPECT_EQ(engine.unfinished(), 1) << "idle work is over";
  const Completion got = (cached(engine, {}), engine.take(id));
  EXPECT_GE(got.cached_tokens, 128);
  EXPECT_EQ(got.tokens, Engine(ctx, t, {.context = 1000}).generate(request).tokens);
}

TEST_F(EngineSharing, CancellationGivesPagesBackAtOnce) {
  Engine engine(ctx, t, {.context = 400, .sequences = 4, .max_pages = 12});
  std::vector<RequestId> ids;
  for (Index i = 0; i < 4; ++i) {
    Request r = with(0, 250 + i, 100);
    r.cache_salt = std::to_string(i);
    ids.push_back(engine.submit(r));
  }
  for (int i = 0; i < 10; ++i) engine.step();
  EXPECT_GT(engine.pages_in_use(), 6);
  for (const RequestId id : ids) engine.cancel(id);
  engine.reset();
  EXPECT_EQ(engine.pages_in_use(), 0);
}

TEST_F(EngineSharing, WithoutALimitTheCacheIsNoLargerThanWhatRanAtATime) {
  Engine engine(ctx, t, {.context = 400, .sequences = 2, .cached_bytes = 0});
  for (Index i = 0; i < 12; ++i) {
    Request r = with(0, 200, 2);
    r.prompt[0] = static_cast<TokenId>(i);
    engine.submit(r);
  }
  Index most = 0;
  while (engine.unfinished() > 0) {
    engine.step();
    most = std::max(most, engine.pages_in_use());
  }
  EXPECT_LE(most, 4);
  EXPECT_EQ(engine.preemptions(), 0);
}

}  // namespace
}  // namespace engine_memory_test
}  // namespace hadal::infer
