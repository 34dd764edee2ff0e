#include "hadal/infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hadal/core/error.h"
#include "hadal/core/random.h"

namespace hadal::infer {
namespace {

// Beyond the largest float nothing is left to compare: penalties stop there.
float to_finite(double value) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMost, kMost));
}

struct Candidate {
  TokenId id;
  double weight;  // probability, not normalised
};

bool better(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

void apply_penalties(const SamplingParams& p, std::span<float> logits, std::span<const TokenId> prompt,
                     std::span<const TokenId> answer) {
  if (p.repetition_penalty != 1) {
    std::vector<bool> seen(logits.size());
    for (const std::span<const TokenId> ids : {prompt, answer})
      for (TokenId id : ids) seen[static_cast<std::size_t>(id)] = true;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double l = logits[i];
      if (seen[i]) logits[i] = to_finite(l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty);
    }
  }
  if (p.presence_penalty == 0 && p.frequency_penalty == 0) return;
  std::map<TokenId, int> counts;
  for (TokenId id : answer) ++counts[id];
  for (const auto& [id, count] : counts)
    logits[static_cast<std::size_t>(id)] -= to_finite(p.presence_penalty + p.frequency_penalty * count);
}

void apply_mask(std::span<float> logits, std::span<const std::uint32_t> allowed, std::uint64_t position) {
  if (allowed.empty()) return;
  bool any = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if ((allowed[i / 32] >> (i % 32) & 1) == 0)
      logits[i] = -std::numeric_limits<float>::infinity();
    else
      any |= logits[i] > -std::numeric_limits<float>::infinity();
  }
  HADAL_CHECK(any, "sampling: the constraint leaves no token that the model could say at position {}", position);
}

TokenId argmax(std::span<const float> logits) {
  TokenId best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[static_cast<std::size_t>(best)]) best = static_cast<TokenId>(i);
  return best;
}

void keep_top_k(std::vector<Candidate>& candidates, Index k) {
  if (k <= 0 || k >= static_cast<Index>(candidates.size())) return;
  std::nth_element(candidates.begin(), candidates.begin() + (k - 1), candidates.end(), better);
  candidates.resize(static_cast<std::size_t>(k));
}

void keep_min_p(std::vector<Candidate>& candidates, double min_p) {
  if (min_p <= 0) return;
  // Weights are relative to the largest, which is 1.
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < min_p; });
}

void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  if (top_p >= 1) return;
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  // Few tokens make up the nucleus of most distributions, so a heap beats sorting the whole vocabulary.
  const auto worse = [](const Candidate& a, const Candidate& b) { return better(b, a); };
  std::make_heap(candidates.begin(), candidates.end(), worse);
  auto end = candidates.end();
  double sum = 0;
  do {
    std::pop_heap(candidates.begin(), end, worse);
    --end;
    sum += end->weight;
  } while (end != candidates.begin() && sum < top_p * total);
  candidates.erase(candidates.begin(), end);
}

// The candidates that top_k, min_p and top_p leave, in the order of their ids. Each keeps the best so many, so the
// worst that is left tells which they are, and nothing needs to be sorted.
void cut_tail(const SamplingParams& p, std::vector<Candidate>& candidates) {
  if (p.top_k <= 0 && p.min_p <= 0 && p.top_p >= 1) return;
  std::vector<Candidate> kept = candidates;
  keep_top_k(kept, p.top_k);
  keep_min_p(kept, p.min_p);
  keep_top_p(kept, p.top_p);
  if (kept.size() == candidates.size()) return;
  const Candidate worst = *std::max_element(kept.begin(), kept.end(), better);
  std::erase_if(candidates, [&](const Candidate& c) { return better(worst, c); });
}

// Sums run over ascending ids, whatever was cut.
TokenId draw(const std::vector<Candidate>& candidates, double u) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  double sum = 0;
  for (const Candidate& c : candidates) {
    sum += c.weight;
    if (u * total < sum) return c.id;
  }
  return candidates.back().id;
}

// No order and no distribution has a place for NaN or an infinite logit; minus infinity is probability 0, which cannot
// be everybody's.
void check_logits(std::span<const float> logits, std::uint64_t position) {
  // No way out of the loop, so that it is a few instructions for eight logits.
  bool any = false, all_below = true;
  for (float l : logits) {
    all_below &= l < std::numeric_limits<float>::infinity();
    any |= l > -std::numeric_limits<float>::infinity();
  }
  if (!all_below)
    for (float l : logits)
      HADAL_CHECK(l < std::numeric_limits<float>::infinity(),
                  "sampling: the model gave {} at position {}; `hadal verify` looks for damaged weights",
                  std::isnan(l) ? "NaN" : "infinity", position);
  HADAL_CHECK(any,
              "sampling: the model gave no token any probability at position {}; `hadal verify` looks for damaged "
              "weights",
              position);
}

// `logits` are those of the vocabulary; the token's own may lie behind its end.
void add_logprobs(std::span<const float> logits, float own, int top, Sample& sample) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float l : logits) sum += std::exp(double{l} - largest);
  const double normaliser = largest + std::log(sum);
  sample.logprob = own - normaliser;
  std::vector<Candidate> all;
  for (std::size_t i = 0; i < logits.size(); ++i) all.push_back({static_cast<TokenId>(i), logits[i]});
  const auto count = std::min<std::size_t>(static_cast<std::size_t>(top), all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(), better);
  for (std::size_t i = 0; i < count; ++i) sample.top.push_back({all[i].id, all[i].weight - normaliser});
}

}  // namespace

void validate(const SamplingParams& p) {
  const auto require = [](bool good, const char* field, double value, const char* range) {
    if (!good) throw InvalidRequest(fmt::format("{} is {}, {} was expected", field, value, range));
  };
  require(std::isfinite(p.temperature) && p.temperature >= 0 && p.temperature <= 100, "temperature", p.temperature,
          "a number from 0 to 100");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "a number above 0 and at most 1");
  require(p.top_k >= 0, "top_k", static_cast<double>(p.top_k), "0 (off) or more");
  require(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "a number from 0 to 1");
  require(p.repetition_penalty >= 0.01 && p.repetition_penalty <= 100, "repetition_penalty", p.repetition_penalty,
          "a number from 0.01 to 100");
  require(p.presence_penalty >= -2 && p.presence_penalty <= 2, "presence_penalty", p.presence_penalty,
          "a number from -2 to 2");
  require(p.frequency_penalty >= -2 && p.frequency_penalty <= 2, "frequency_penalty", p.frequency_penalty,
          "a number from -2 to 2");
  require(p.top_logprobs >= -1 && p.top_logprobs <= kMostLogprobs, "top_logprobs", p.top_logprobs, "0 to 20");
  for (const auto& [id, bias] : p.logit_bias)
    require(bias >= -100 && bias <= 100, "logit_bias", bias, "a number from -100 to 100");
}

Sampler::Sampler(SamplingParams params, TokenId num_tokens) : params_(std::move(params)), num_tokens_(num_tokens) {
  validate(params_);
  for (const auto& [id, bias] : params_.logit_bias)
    if (id < 0 || id >= num_tokens_)
      throw InvalidRequest(fmt::format("logit_bias: token id {} is not below {}", id, num_tokens_));
}

Sample Sampler::sample(std::span<float> all_logits, std::span<const TokenId> prompt, std::span<const TokenId> answer,
                       std::uint64_t choice, std::uint64_t position, std::span<const std::uint32_t> allowed) const {
  const std::span<float> logits = all_logits.first(std::min(all_logits.size(), static_cast<std::size_t>(num_tokens_)));
  check_logits(logits, position);
  Sample result;
  const std::vector<float> raw(params_.top_logprobs >= 0 ? logits.begin() : logits.end(), logits.end());
  for (const auto& [id, bias] : params_.logit_bias) logits[static_cast<std::size_t>(id)] += static_cast<float>(bias);
  // Penalised ids beyond the vocabulary's end may be in a prompt; they are in all_logits.
  apply_penalties(params_, all_logits, prompt, answer);
  apply_mask(logits, allowed, position);
  result.id = argmax(logits);
  if (params_.temperature > 0) {
    const double largest = logits[static_cast<std::size_t>(result.id)];
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double weight = std::exp((double{logits[i]} - largest) / params_.temperature);
      if (weight > 0) candidates.push_back({static_cast<TokenId>(i), weight});
    }
    cut_tail(params_, candidates);
    result.id = draw(candidates, Philox(params_.seed, choice).uniform(position));
  }
  if (params_.top_logprobs >= 0)
    add_logprobs(raw, raw[static_cast<std::size_t>(result.id)], params_.top_logprobs, result);
  return result;
}

Sample Sampler::given(std::span<const float> all_logits, TokenId id, int top, std::uint64_t position) const {
  const auto logits = all_logits.first(std::min(all_logits.size(), static_cast<std::size_t>(num_tokens_)));
  check_logits(logits, position);
  Sample result{.id = id};
  add_logprobs(logits, all_logits[static_cast<std::size_t>(id)], top, result);
  return result;
}

}  // namespace hadal::infer
