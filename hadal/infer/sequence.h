// One request on its way through an engine: its tokens, its cache, the answer so far and whether it has ended. What it
// leaves in the cache may serve the next one.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <vector>

#include "hadal/infer/request.h"

namespace hadal::infer {

class Sequence {
 public:
  Sequence(const model::CachePools& pools, const EngineOptions& resolved);

  // Tokens that a request would find in the cache: a common prefix, but for the last token of its prompt, whose logits
  // are wanted.
  Index reusable_prefix(const Request& request) const;
  // Begins with a valid request.
  void start(Request request);
  void end(FinishReason reason);
  bool ended() const { return ended_; }
  // Of one that has ended, once.
  Completion take_completion() { return std::move(completion_); }

  // Tokens that the cache holds. Prompt tokens come first, in the expanded form; then the token sampled last, in the
  // absorbed one (rule 18).
  Index length() const { return state_.main.length(); }
  bool in_prompt() const { return length() < prompt_tokens_; }
  // What a forward pass should run next, at most `rows` tokens.
  model::Segment next(Index rows);
  // The pass has run the end of the prompt.
  void prompt_ended();
  // Takes back what a pass has run that was not finished.
  void rewind(Index length) { state_.truncate(length); }
  void forget();

  // The next token from the logits behind the last one that ran. Changes nothing but `logits`: sequences may sample at
  // the same time.
  Sample sample(std::span<float> logits) const;
  // Appends the token and sees whether that was the end.
  void accept(const Sample& sample);

 private:
  using Clock = std::chrono::steady_clock;

  std::span<const TokenId> prompt() const { return std::span(ids_).first(static_cast<std::size_t>(prompt_tokens_)); }
  std::span<const TokenId> answer() const { return std::span(ids_).subspan(static_cast<std::size_t>(prompt_tokens_)); }

  Index context_;
  TokenId num_tokens_;
  model::SequenceState state_;
  std::vector<TokenId> ids_;  // prompt, then answer; state_ holds the first of them
  Index prompt_tokens_ = 0;
  Request request_;  // but for its prompt
  std::optional<Sampler> sampler_;
  Completion completion_;  // but for its tokens, until it ends
  bool ended_ = true;
  Clock::time_point start_, prompt_end_;
};

}  // namespace hadal::infer
