#include "hadal/infer/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "hadal/core/error.h"
#include "hadal/core/random.h"

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

// The definition, word by word: all weights, all sorted.
TokenId by_the_book(const SamplingParams& p, const std::vector<float>& logits, double u) {
  struct Weighed {
    std::size_t id;
    double weight;
  };
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<Weighed> all;
  for (std::size_t i = 0; i < logits.size(); ++i)
    all.push_back({i, std::exp((double{logits[i]} - largest) / p.temperature)});
  std::stable_sort(all.begin(), all.end(), [](const Weighed& a, const Weighed& b) { return a.weight > b.weight; });
  if (p.top_k > 0 && p.top_k < static_cast<Index>(all.size())) all.resize(static_cast<std::size_t>(p.top_k));
  std::erase_if(all, [&](const Weighed& w) { return w.weight < p.min_p || w.weight == 0; });
  const auto by_id = [&] {
    auto sorted = all;
    std::sort(sorted.begin(), sorted.end(), [](const Weighed& a, const Weighed& b) { return a.id < b.id; });
    return sorted;
  };
  double total = 0, sum = 0;
  for (const Weighed& w : by_id()) total += w.weight;
  std::size_t kept = 0;
  while (kept < all.size() && (kept == 0 || p.top_p >= 1 || sum < p.top_p * total)) sum += all[kept++].weight;
  all.resize(kept);
  total = sum = 0;
  for (const Weighed& w : by_id()) total += w.weight;
  for (const Weighed& w : by_id()) {
    sum += w.weight;
    if (u * total < sum) return static_cast<TokenId>(w.id);
  }
  return static_cast<TokenId>(by_id().back().id);
}

enum class Shape { kPlain, kTies, kPeak };

// Whatever is left out or estimated on the way.
TEST(Sampler, TheTokenIsTheOneOfAllExactWeights) {
  const std::vector<SamplingParams> settings = {{},
                                                {.temperature = 0.6, .top_p = 0.95},
                                                {.temperature = 0.01},
                                                {.temperature = 100},
                                                {.top_k = 1},
                                                {.top_k = 40},
                                                {.top_k = 700, .min_p = 0.01},
                                                {.min_p = 1},
                                                {.top_p = 1e-9},
                                                {.top_p = 1 - 1e-15},
                                                {.top_p = 0.5, .top_k = 30},
                                                {.min_p = 1e-13},
                                                {.top_p = 0.5},
                                                {.temperature = 2, .top_p = 0.9, .top_k = 100, .min_p = 0.02}};
  for (const std::size_t n : {5, 64, 1500})
    for (const double spread : {0.0, 0.5, 4.0, 30.0})
      for (SamplingParams p : settings)
        for (const Shape shape : {Shape::kPlain, Shape::kTies, Shape::kPeak})
          for (std::uint64_t draw_number = 0; draw_number < 20; ++draw_number) {
            p.seed = draw_number;
            std::vector<float> logits(n);
            for (std::size_t i = 0; i < n; ++i) {
              const double l = spread * (Philox(draw_number, n).uniform(i) * 6 - 3);
              logits[i] = static_cast<float>(shape == Shape::kTies   ? std::round(l)
                                             : shape == Shape::kPeak ? (i == n / 2 ? 2 * spread : l / 1000)
                                                                     : l);
              if (i % 7 == 3) logits[i] = -std::numeric_limits<float>::infinity();
            }
            const TokenId expected = by_the_book(p, logits, Philox(p.seed, 0).uniform(5));
            ASSERT_EQ(draw(p, logits).id, expected)
                << n << " logits, spread " << spread << ", T " << p.temperature << " k " << p.top_k << " p " << p.top_p
                << " m " << p.min_p << " shape " << static_cast<int>(shape) << " draw " << draw_number;
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

TEST(Sampler, TheBiasComesBeforeThePenalties) {
  // 3 - 5 = -2, doubled: -4. Halved first it would be -3.5.
  EXPECT_EQ(draw({.temperature = 0, .repetition_penalty = 2, .logit_bias = {{0, -5.0}}}, {3, -3.75f}, 0, {0}).id, 1);
}

TEST(Sampler, PenaltiesOfHugeLogitsStayFinite) {
  const float huge = 3e38f;
  for (std::uint64_t p = 0; p < 20; ++p) {
    EXPECT_EQ(draw({.repetition_penalty = 0.01}, {0, huge, 1}, p, {1}).id, 1);
    EXPECT_NE(draw({.repetition_penalty = 100}, {0, -huge, 1}, p, {0, 1, 2}).id, 1);
    EXPECT_EQ(draw({.repetition_penalty = 100, .presence_penalty = 2}, {-huge, -huge}, p, {0}).id, 1);
  }
}

// What drawing was before it sorted less: the whole vocabulary by weight, cut, and what is left by id.
TokenId draw_by_sorting(const SamplingParams& params, const std::vector<float>& logits, std::uint64_t position) {
  struct Candidate {
    TokenId id;
    double weight;
  };
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<Candidate> all;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((double{logits[i]} - largest) / params.temperature);
    if (weight > 0) all.push_back({static_cast<TokenId>(i), weight});
  }
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  };
  const auto most = static_cast<std::size_t>(params.top_k);
  if (most > 0 && most < all.size()) {
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(most) - 1, all.end(), better);
    all.resize(most);
  }
  std::erase_if(all, [&](const Candidate& c) { return c.weight < params.min_p; });
  if (params.top_p < 1) {
    double total = 0, sum = 0;
    for (const Candidate& c : all) total += c.weight;
    std::sort(all.begin(), all.end(), better);
    std::size_t keep = 0;
    do sum += all[keep++].weight;
    while (keep < all.size() && sum < params.top_p * total);
    all.resize(keep);
  }
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0, sum = 0;
  for (const Candidate& c : all) total += c.weight;
  const double u = Philox(params.seed, 0).uniform(position);
  for (const Candidate& c : all)
    if (u * total < (sum += c.weight)) return c.id;
  return all.back().id;
}

TEST(Sampler, DrawsWhatSortingTheVocabularyDrew) {
  const std::vector<SamplingParams> ways = {{},
                                            {.temperature = 0.3, .top_p = 0.9},
                                            {.temperature = 5, .top_p = 0.99},
                                            {.top_k = 1},
                                            {.top_p = 0.7, .top_k = 40},
                                            {.temperature = 2, .top_k = 300, .min_p = 0.05},
                                            {.top_p = 0.95, .top_k = 100, .min_p = 0.01}};
  for (std::uint64_t row = 0; row < 60; ++row) {
    const Philox random(row, 1);
    std::vector<float> logits(500 + 37 * row % 400);
    // Every third row has many equal values.
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double value = 12 * random.uniform(i);
      logits[i] = static_cast<float>(row % 3 == 0 ? std::floor(value) : value);
    }
    for (SamplingParams params : ways)
      for (params.seed = 0; params.seed < 4; ++params.seed)
        EXPECT_EQ(draw(params, logits, row).id, draw_by_sorting(params, logits, row)) << row;
  }
}

TEST(Sampler, BadParametersAndNanAreErrors) {
  EXPECT_THROW(Sampler({.temperature = -1}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.top_p = 0}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.min_p = 2}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.logit_bias = {{5, 1.0}}}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.repetition_penalty = 1e-40}, 5), InvalidRequest);
  EXPECT_THROW(Sampler({.repetition_penalty = 1e9}, 5), InvalidRequest);
  const float infinite = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    EXPECT_THROW(draw({.temperature = temperature}, {0, std::nanf(""), 1}), Error);
    EXPECT_THROW(draw({.temperature = temperature}, {0, infinite, 1}), Error);
    EXPECT_THROW(draw({.temperature = temperature}, {-infinite, -infinite}), Error);
    EXPECT_EQ(draw({.temperature = temperature}, {-infinite, -3, -infinite}).id, 1);
  }
}

}  // namespace
}  // namespace hadal::infer
