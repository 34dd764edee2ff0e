// One request on its way through an engine: its cache, what is to be computed next, the answer so far and whether it
// has ended. What an engine for one sequence and one for many have in common.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <vector>

#include "hadal/infer/request.h"

namespace hadal::infer {

class Sequence {
 public:
  Sequence(const model::Transformer& transformer, const EngineOptions& resolved);

  // Begins with a valid request; what the one before left in the cache serves again for a common prefix.
  void start(const Request& request, OnToken on_token);
  void cancel() { end(FinishReason::kCancelled); }
  bool ended() const { return ended_; }
  const Completion& completion() const { return completion_; }

  // Prompt tokens come first, in the expanded form; then the token sampled last, in the absorbed one (rule 18).
  bool in_prompt() const { return cached_ids_.size() < request_.prompt.size(); }
  Index prompt_done() const { return static_cast<Index>(cached_ids_.size()); }
  // What a forward pass should run next, at most `rows` tokens; `ran` says that it did.
  model::Segment next(Index rows);
  void ran(std::span<const TokenId> ids);

  // The next token from the logits behind the last one that ran. Changes nothing but `logits`: sequences may sample at
  // the same time.
  Sample sample(std::span<float> logits) const;
  // Appends the token, tells whoever listens and sees whether that was the end.
  void accept(const Sample& sample);

 private:
  using Clock = std::chrono::steady_clock;

  Index reusable_prefix() const;
  void end(FinishReason reason);

  Index context_;
  TokenId num_tokens_;
  model::SequenceState state_;
  std::vector<TokenId> cached_ids_;  // what state_ holds
  Request request_;
  OnToken on_token_;
  std::optional<Sampler> sampler_;
  Completion completion_;
  bool ended_ = true;
  Clock::time_point start_, prompt_end_;
};

// One forward pass for all of `sequences`, at most `rows` tokens, and a token for each whose prompt is done with it.
// All are in their prompts or none is. Throws what observers throw and leaves the sequences as they were then.
void run_pass(Context& ctx, const model::Transformer& transformer, std::span<Sequence* const> sequences, Index rows);

}  // namespace hadal::infer
