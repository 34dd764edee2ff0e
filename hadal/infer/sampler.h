// From a row of logits to the next token. Pure: the result depends on the logits, the history and (seed, choice,
// position), never on the order of calls, so that batching and speculation do not change a draw.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/core/tensor.h"

namespace hadal::infer {

using config::TokenId;

struct SamplingParams {
  double temperature = 1;  // 0: greedy, the lowest id among equals
  double top_p = 1;        // keep the smallest set of tokens whose probabilities reach top_p
  Index top_k = 0;         // keep the k most probable; 0: all
  double min_p = 0;        // keep tokens with at least min_p times the largest probability
  // Divides positive and multiplies negative logits of tokens seen in prompt or answer; 0.01 to 100.
  double repetition_penalty = 1;
  double presence_penalty = 0;   // subtracted once from the logits of tokens in the answer
  double frequency_penalty = 0;  // subtracted for each occurrence in the answer
  std::map<TokenId, double> logit_bias = {};
  std::uint64_t seed = 0;
  int top_logprobs = -1;  // -1: none; otherwise the chosen token's and this many of the best

  bool changes_logits() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0 || !logit_bias.empty();
  }
};

inline constexpr int kMostLogprobs = 20;

// Throws InvalidRequest with a sentence that names the field ("top_p is 1.5, ...").
void validate(const SamplingParams& params);

struct TokenLogprob {
  TokenId id = 0;
  double logprob = 0;
};

struct Sample {
  TokenId id = 0;
  double logprob = 0;  // of the model itself: before penalties, bias and temperature; with top_logprobs >= 0
  std::vector<TokenLogprob> top = {};  // descending, the lower id first among equals
};

class Sampler {
 public:
  // Tokens from `num_tokens` on (padding of the embedding beyond the tokenizer's vocabulary) are never sampled.
  Sampler(SamplingParams params, TokenId num_tokens);

  // The token for absolute position `position` of the sequence. `logits` [vocab_size] are scratch afterwards.
  // Order: bias, penalties, mask, temperature, top_k, min_p, top_p, draw (bias first as transformers and vLLM have it).
  // `allowed`: bit i % 32 of word i / 32 says whether token i may come; empty: all may.
  // Throws Error for NaN, for infinity, and if all are minus infinity.
  Sample sample(std::span<float> logits, std::span<const TokenId> prompt, std::span<const TokenId> answer,
                std::uint64_t choice, std::uint64_t position, std::span<const std::uint32_t> allowed = {}) const;

  // What the model itself said about a token that was given: its log-probability and so many of the best. `logits` stay
  // as they are. Throws as sample does.
  Sample given(std::span<const float> logits, TokenId id, int top, std::uint64_t position) const;

  const SamplingParams& params() const { return params_; }

 private:
  SamplingParams params_;
  TokenId num_tokens_;
};

}  // namespace hadal::infer
