#include "hadal/infer/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "hadal/core/error.h"
#include "hadal/core/random.h"
#include "hadal/infer/logit_scan.h"

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
      for (const TokenId id : ids) {
        const auto i = static_cast<std::size_t>(id);
        if (seen[i]) continue;
        seen[i] = true;
        const double l = logits[i];
        logits[i] = to_finite(l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty);
      }
  }
  if (p.presence_penalty == 0 && p.frequency_penalty == 0) return;
  std::vector<TokenId> ids(answer.begin(), answer.end());
  std::sort(ids.begin(), ids.end());
  for (auto begin = ids.begin(), end = begin; begin != ids.end(); begin = end) {
    end = std::upper_bound(begin, ids.end(), *begin);
    const auto count = static_cast<double>(end - begin);
    logits[static_cast<std::size_t>(*begin)] -= to_finite(p.presence_penalty + p.frequency_penalty * count);
  }
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

// Vectors of a thread that keep their memory: to map a megabyte anew for every token takes longer than to fill it.
struct Scratch {
  std::vector<Candidate> candidates, best;
};

Scratch& scratch() {
  thread_local Scratch mine;
  return mine;
}

// Weights of tokens, ascending ids, those of the best one 1. They are exact, or close: then tokens whose weights are
// too small to matter are left out, and what is too close to call has to be asked of exact ones. So every token is the
// one that exact weights of all tokens would give.
struct Distribution {
  std::vector<Candidate>& candidates;
  bool exact;

  double total() const {
    double sum = 0;
    for (const Candidate& c : candidates) sum += c.weight;
    return sum;
  }
  // Whether it cannot be said which of two sums or weights is the larger one.
  bool open(double a, double b) const { return !exact && std::abs(a - b) <= kClose * std::abs(b); }

  static constexpr double kClose = 1e-10;  // more than roundings and what is left out come to
  static constexpr double kLeftOut = 1e-12;
};

// Below it a weight is less than `share` of the largest; rounded so that what is at it or above is never missed.
float least_logit(double largest, double temperature, double share) {
  const double least = largest + temperature * (std::log(share) - 1e-9);
  return std::nextafter(static_cast<float>(least), -std::numeric_limits<float>::infinity());
}

// Tokens that top_k or min_p cuts for certain need no weight.
Distribution weigh(const SamplingParams& p, std::span<const float> logits, float largest, bool exact) {
  float least = -std::numeric_limits<float>::infinity();
  if (p.min_p > 0) least = std::max(least, least_logit(largest, p.temperature, p.min_p));
  if (p.top_k > 0) least = std::max(least, least_logit(reached_by(logits, p.top_k), p.temperature, 1));
  const double left_out = Distribution::kLeftOut / static_cast<double>(logits.size());
  if (!exact) least = std::max(least, least_logit(largest, p.temperature, left_out));
  std::vector<Candidate>& all = scratch().candidates;
  all.clear();
  for_each_at_least(logits, least, [&](std::size_t i) {
    all.push_back({static_cast<TokenId>(i), (double{logits[i]} - double{largest}) / p.temperature});
  });
  if (exact) {
    for (Candidate& c : all) c.weight = std::exp(c.weight);
    std::erase_if(all, [](const Candidate& c) { return c.weight == 0; });
  } else {
    std::array<double, kExpLanes> x{};
    for (std::size_t begin = 0; begin < all.size(); begin += kExpLanes) {
      const std::size_t count = std::min(kExpLanes, all.size() - begin);
      for (std::size_t i = 0; i < count; ++i) x[i] = all[begin + i].weight;
      close_exp(x);
      for (std::size_t i = 0; i < count; ++i) all[begin + i].weight = x[i];
    }
  }
  return {all, exact};
}

// Each cut keeps the best so many, so the worst that is left tells which they are, and nothing needs to be sorted.
// False if it is too close to call; so for all cuts.
bool keep_down_to(const Candidate& worst, Distribution& d) {
  bool open = false;
  std::erase_if(d.candidates, [&](const Candidate& c) {
    open |= c.id != worst.id && d.open(c.weight, worst.weight);
    return better(worst, c);
  });
  return !open;
}

bool keep_top_k(Distribution& d, Index k) {
  if (k <= 0 || k >= static_cast<Index>(d.candidates.size())) return true;
  std::vector<Candidate>& best = scratch().best;
  best = d.candidates;
  std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), better);
  return keep_down_to(best[static_cast<std::size_t>(k) - 1], d);
}

bool keep_min_p(Distribution& d, double min_p) {
  if (min_p <= 0) return true;
  bool open = false;
  // Weights are relative to the largest, which is 1.
  std::erase_if(d.candidates, [&](const Candidate& c) {
    open |= d.open(c.weight, min_p);
    return c.weight < min_p;
  });
  return !open;
}

bool keep_top_p(Distribution& d, double top_p) {
  if (top_p >= 1) return true;
  const double wanted = top_p * d.total();
  // Few tokens make up the nucleus of most distributions, so a heap beats sorting the whole vocabulary.
  const auto worse = [](const Candidate& a, const Candidate& b) { return better(b, a); };
  std::vector<Candidate>& best = scratch().best;
  best = d.candidates;
  std::make_heap(best.begin(), best.end(), worse);
  auto end = best.end();
  double sum = 0;
  do {
    std::pop_heap(best.begin(), end, worse);
    --end;
    sum += end->weight;
    if (d.open(sum, wanted)) return false;
  } while (end != best.begin() && sum < wanted);
  return keep_down_to(*end, d);
}

// Sums run over ascending ids, whatever was cut. Nothing if it is too close to call.
std::optional<TokenId> draw(const Distribution& d, double u) {
  const double wanted = u * d.total();
  double sum = 0;
  for (const Candidate& c : d.candidates) {
    sum += c.weight;
    if (d.open(sum, wanted)) return std::nullopt;
    if (wanted < sum) return c.id;
  }
  return d.exact ? std::optional(d.candidates.back().id) : std::nullopt;
}

TokenId draw(const SamplingParams& p, std::span<const float> logits, float largest, double u) {
  for (const bool exact : {false, true}) {
    Distribution d = weigh(p, logits, largest, exact);
    if (!keep_top_k(d, p.top_k) || !keep_min_p(d, p.min_p) || !keep_top_p(d, p.top_p)) continue;
    if (const auto id = draw(d, u)) return *id;
  }
  return 0;  // exact weights leave nothing open
}

// No order and no distribution has a place for NaN or an infinite logit; minus infinity is probability 0, which cannot
// be everybody's. The largest one.
float check_logits(std::span<const float> logits, std::uint64_t position) {
  const Extremes all = extremes(logits);
  if (!all.all_below_infinity)
    for (float l : logits)
      HADAL_CHECK(l < std::numeric_limits<float>::infinity(),
                  "sampling: the model gave {} at position {}; `hadal verify` looks for damaged weights",
                  std::isnan(l) ? "NaN" : "infinity", position);
  HADAL_CHECK(all.largest > -std::numeric_limits<float>::infinity(),
              "sampling: the model gave no token any probability at position {}; `hadal verify` looks for damaged "
              "weights",
              position);
  return all.largest;
}

// `logits` are those of the vocabulary; the token's own may lie behind its end.
void add_logprobs(std::span<const float> logits, float largest, float own, int top, Sample& sample) {
  double sum = 0;
  for (float l : logits) sum += std::exp(double{l} - double{largest});
  const double normaliser = largest + std::log(sum);
  sample.logprob = own - normaliser;
  std::vector<Candidate> best;
  for_each_at_least(logits, reached_by(logits, top),
                    [&](std::size_t i) { best.push_back({static_cast<TokenId>(i), logits[i]}); });
  const auto count = std::min<std::size_t>(static_cast<std::size_t>(top), best.size());
  std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count), best.end(), better);
  for (std::size_t i = 0; i < count; ++i) sample.top.push_back({best[i].id, best[i].weight - normaliser});
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
  float largest = check_logits(logits, position);
  const float largest_raw = largest;
  Sample result;
  const std::vector<float> raw(params_.top_logprobs >= 0 ? logits.begin() : logits.end(), logits.end());
  for (const auto& [id, bias] : params_.logit_bias) logits[static_cast<std::size_t>(id)] += static_cast<float>(bias);
  // Penalised ids beyond the vocabulary's end may be in a prompt; they are in all_logits.
  apply_penalties(params_, all_logits, prompt, answer);
  apply_mask(logits, allowed, position);
  if (params_.changes_logits() || !allowed.empty()) largest = extremes(logits).largest;
  if (params_.temperature > 0)
    result.id = draw(params_, logits, largest, Philox(params_.seed, choice).uniform(position));
  else
    result.id = static_cast<TokenId>(index_of(logits, largest));
  if (params_.top_logprobs >= 0)
    add_logprobs(raw, largest_raw, raw[static_cast<std::size_t>(result.id)], params_.top_logprobs, result);
  return result;
}

Sample Sampler::given(std::span<const float> all_logits, TokenId id, int top, std::uint64_t position) const {
  const auto logits = all_logits.first(std::min(all_logits.size(), static_cast<std::size_t>(num_tokens_)));
  const float largest = check_logits(logits, position);
  Sample result{.id = id};
  add_logprobs(logits, largest, all_logits[static_cast<std::size_t>(id)], top, result);
  return result;
}

}  // namespace hadal::infer
