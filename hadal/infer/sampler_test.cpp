#include "hadal/infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "hadal/core/error.h"

namespace hadal::infer {
namespace {

std::vector<float> ramp() {
  return {0, 1, 2, 3, 3, 2};
}

Sample draw(SamplingParams params, std::vector<float> logits, std::uint64_t position = 5,
            std::vector<TokenId> prompt = {}, std::vector<TokenId> answer = {}) {
  const auto n = static_cast<TokenId>(logits.size());
  return Sampler(params, n).sample(logits, prompt, answer, 0, position);
}

std::vector<double> shares(SamplingParams params, const std::vector<float>& logits, int n = 20000) {
  std::vector<double> counts(logits.size());
  for (int i = 0; i < n; ++i)
    ++counts[static_cast<std::size_t>(draw(params, logits, static_cast<std::uint64_t>(i)).id)];
  for (double& c : counts) c /= n;
  return counts;
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  EXPECT_EQ(draw({.temperature = 0}, ramp()).id, 3);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const auto got = shares({}, ramp());
  double sum = 0;
  for (float l : ramp()) sum += std::exp(l);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], std::exp(ramp()[i]) / sum, 0.015);
}

TEST(Sampler, TheSameSeedChoiceAndPositionGiveTheSameToken) {
  const Sampler sampler({.temperature = 1, .seed = 9}, 6);
  for (std::uint64_t p = 0; p < 50; ++p) {
    auto a = ramp(), b = ramp();
    EXPECT_EQ(sampler.sample(a, {}, {}, 1, p).id, sampler.sample(b, {}, {}, 1, p).id);
  }
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  for (const double share : shares({.top_k = 2}, ramp())) EXPECT_TRUE(share == 0 || share > 0.4);
  const auto nucleus = shares({.top_p = 0.6}, ramp());
  EXPECT_EQ(nucleus[0] + nucleus[1] + nucleus[2] + nucleus[5], 0);
  const auto least = shares({.min_p = 0.3}, ramp());
  EXPECT_EQ(least[0] + least[1], 0);
  EXPECT_GT(least[2], 0);
  EXPECT_EQ(draw({.top_p = 1e-9}, ramp()).id, 3);
}

TEST(Sampler, PenaltiesAndBiasMoveTheChoice) {
  EXPECT_EQ(draw({.temperature = 0, .repetition_penalty = 2}, ramp(), 0, {3}).id, 4);
  EXPECT_EQ(draw({.temperature = 0, .presence_penalty = 1.5}, ramp(), 0, {}, {3}).id, 4);
  EXPECT_EQ(draw({.temperature = 0, .presence_penalty = 1.5}, ramp(), 0, {3}, {}).id, 3) << "the prompt does not count";
  EXPECT_EQ(draw({.temperature = 0, .frequency_penalty = 0.6}, ramp(), 0, {}, {3, 3, 4}).id, 4);
  EXPECT_EQ(draw({.temperature = 0, .logit_bias = {{0, 50.0}}}, ramp()).id, 0);
}

TEST(Sampler, IdsBeyondTheTokenizerAreNeverSampled) {
  std::vector<float> logits = {0, 0, 99, 99};
  const Sampler sampler({}, 2);
  for (std::uint64_t p = 0; p < 200; ++p) {
    auto copy = logits;
    EXPECT_LT(sampler.sample(copy, {}, {}, 0, p).id, 2);
  }
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  const Sample s = draw({.temperature = 0, .logit_bias = {{0, 100.0}}, .top_logprobs = 3}, ramp());
  double sum = 0;
  for (float l : ramp()) sum += std::exp(l);
  EXPECT_EQ(s.id, 0);
  EXPECT_NEAR(s.logprob, 0 - std::log(sum), 1e-6);
  ASSERT_EQ(s.top.size(), 3u);
  EXPECT_EQ(s.top[0].id, 3);
  EXPECT_EQ(s.top[1].id, 4);
  EXPECT_EQ(s.top[2].id, 2);
}

TEST(Sampler, BadParametersAndNanAreErrors) {
  EXPECT_THROW(Sampler({.temperature = -1}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.top_p = 0}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.min_p = 2}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.logit_bias = {{5, 1.0}}}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}, 5), InvalidRequest);
  EXPECT_THROW(draw({}, {0, std::nanf(""), 1}), Error);
}

}  // namespace
}  // namespace hadal::infer
