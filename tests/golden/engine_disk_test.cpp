// Pages of prompts that come from files change no bit of an answer: small random models, every kind of cache.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"
#include "tests/support/temporary_directory.h"

namespace hadal::infer {
namespace engine_disk_test {
namespace {

const std::string kModels = HADAL_TEST_DATA "/golden/models/";

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<double> logprobs;
  friend bool operator==(const Answer&, const Answer&) = default;
};

std::vector<TokenId> some_ids(Index count, Index vocab, Index salt) {
  std::vector<TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<TokenId>((i * 7919 + i * i * 31 + salt * 977) % vocab));
  return ids;
}

// Beginnings of 300 and of 200 tokens with different ends.
std::vector<Request> requests(Index vocab) {
  std::vector<Request> all;
  for (Index i = 0; i < 8; ++i) {
    Request& r = all.emplace_back();
    r.prompt = i % 2 == 0 ? some_ids(300, vocab, 0) : some_ids(200, vocab, 1);
    const auto own = some_ids(i * 29 % 90, vocab, i);
    r.prompt.insert(r.prompt.end(), own.begin(), own.end());
    r.sampling = {.temperature = static_cast<double>(i % 3) * 0.7, .seed = 3, .top_logprobs = 0};
    r.max_tokens = 6 + i;
    if (i == 5) r.cache_salt = "other";
  }
  return all;
}

class EngineDisk : public ::testing::TestWithParam<std::tuple<const char*, DType, Speculate>> {
 protected:
  test::TemporaryDirectory dir;
  Context ctx{2};
  stream::LoadedModel model =
      stream::load_model(kModels + std::get<0>(GetParam()), {.mtp = std::get<2>(GetParam()) != Speculate::kOff});
  const model::Transformer& t = model.transformer;
  EngineOptions options{.context = 512,
                        .chunk = 100,
                        .cache_dtype = std::get<1>(GetParam()),
                        .sequences = 4,
                        .speculate = std::get<2>(GetParam()),
                        .fixed_drafts = std::get<2>(GetParam()) == Speculate::kOff ? 0 : 1};
  std::vector<Request> all = requests(t.config.vocab_size);

  // An engine that knows nothing but what is in the files.
  std::vector<Answer> answers(const io::Digest* owner, Index* cached = nullptr, PageStoreStats* stats = nullptr,
                              Index max_pages = 0) {
    std::optional<PageStore> store;
    if (owner) store.emplace(dir.path(), std::uint64_t{1} << 30, *owner);
    EngineOptions o = options;
    o.pages_on_disk = store ? &*store : nullptr;
    o.max_pages = max_pages;
    Engine engine(ctx, t, o);
    std::vector<RequestId> ids;
    for (const Request& r : all) ids.push_back(engine.submit(r));
    std::map<RequestId, Answer> out;
    for (int steps = 0; engine.unfinished() > 0 && steps < 5000; ++steps)
      for (const TokenEvent& e : engine.step()) {
        out[e.id].tokens.push_back(e.sample.id);
        out[e.id].logprobs.push_back(e.sample.logprob);
      }
    std::vector<Answer> answers;
    for (const RequestId id : ids) {
      const Completion done = engine.take(id);
      EXPECT_EQ(done.tokens, out[id].tokens);
      if (cached) *cached += done.cached_tokens;
      answers.push_back(out[id]);
    }
    if (stats) *stats = store->stats();
    return answers;
  }
};

const io::Digest kModel = io::Sha256().text("model").finish();
const io::Digest kOther = io::Sha256().text("other").finish();

TEST_P(EngineDisk, Rule18_BitsAreThoseOfAFreshComputation) {
  const std::vector<Answer> expected = answers(nullptr);
  Index cold = 0, warm = 0, other = 0, tight = 0;
  PageStoreStats stats;
  EXPECT_EQ(answers(&kModel, &cold), expected);
  EXPECT_EQ(answers(&kModel, &warm, &stats), expected);
  EXPECT_GT(warm, cold + 128);
  EXPECT_GE(stats.loaded, 2u);
  EXPECT_GE(stats.pages, 4u);
  EXPECT_EQ(answers(&kModel, &tight, nullptr, 9), expected) << "few pages";
  // What was computed by another model, or in another format, is not even looked at.
  EXPECT_EQ(answers(&kOther, &other, &stats), expected);
  EXPECT_EQ(other, cold);
  EXPECT_EQ(stats.loaded, 0u);
}

TEST_P(EngineDisk, WhatIsDamagedIsComputedAgain) {
  const std::vector<Answer> expected = answers(&kModel);
  int n = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path()))
    if (entry.path().extension() == ".record" && n++ % 2 == 0)
      std::fstream(entry.path(), std::ios::in | std::ios::out | std::ios::binary).seekp(2000).put('!').put('?');
  EXPECT_GT(n, 2);
  EXPECT_EQ(answers(&kModel), expected);
  EXPECT_EQ(answers(&kModel), expected);
}

TEST_P(EngineDisk, WhoHasLostInterestHoldsNobodyUp) {
  const std::vector<Answer> expected = answers(&kModel);
  PageStore store(dir.path(), std::uint64_t{1} << 30, kModel);
  EngineOptions o = options;
  o.pages_on_disk = &store;
  Engine engine(ctx, t, o);
  const RequestId first = engine.submit(all[0]), second = engine.submit(all[2]), third = engine.submit(all[1]);
  engine.step();
  engine.cancel(first);
  std::map<RequestId, std::vector<double>> logprobs;
  for (int steps = 0; engine.unfinished() > 0 && steps < 1000; ++steps)
    for (const TokenEvent& e : engine.step()) logprobs[e.id].push_back(e.sample.logprob);
  EXPECT_EQ(logprobs[second], expected[2].logprobs);
  EXPECT_EQ(logprobs[third], expected[1].logprobs);
}

INSTANTIATE_TEST_SUITE_P(Models, EngineDisk,
                         ::testing::Values(std::tuple("v3-tiny", DType::kF32, Speculate::kOff),
                                           std::tuple("v3-tiny", DType::kBF16, Speculate::kMtp),
                                           std::tuple("v3-tiny-fp8", DType::kF8E4M3, Speculate::kMtp),
                                           std::tuple("moonlight-tiny", DType::kF32, Speculate::kOff)),
                         [](const auto& p) {
                           std::string name =
                               std::string(std::get<0>(p.param)) + "_" + std::string(dtype_name(std::get<1>(p.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace engine_disk_test
}  // namespace hadal::infer
