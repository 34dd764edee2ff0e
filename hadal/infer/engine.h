// Generation: token ids in, token ids out; the engine knows no text. This one runs one sequence at a time; a batching
// engine can take its place behind the same calls.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "hadal/infer/sampler.h"
#include "hadal/model/transformer.h"

namespace hadal::infer {

enum class FinishReason { kStop, kLength, kCancelled };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled"

// Which cache entries of the sequence before may serve again for a common prefix.
enum class CacheReuse {
  kSameBits,  // those that a fresh start would compute alike: tokens that were prompt then and are prompt now
  kAny,       // generated ones too: a chat goes on from its own answers
};

struct Request {
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;
  Index max_tokens = 0;                 // 0: up to the context's end
  std::vector<TokenId> stop_token_ids;  // end the answer; the end token is part of it
  std::uint64_t choice = 0;             // which of several answers to one prompt: another stream of random numbers
  CacheReuse reuse = CacheReuse::kSameBits;
};

struct Completion {
  std::vector<TokenId> tokens;  // the end token included
  FinishReason finish_reason = FinishReason::kStop;
  Index prompt_tokens = 0;
  Index cached_tokens = 0;  // of the prompt, taken from the sequence before
  double prompt_seconds = 0;
  double decode_seconds = 0;  // all but the first token
};

// Called for every token as it is sampled. Returning false ends the answer: kStop if the caller's own condition is met
// (a stop string), kCancelled if the user lost interest.
enum class Continue { kYes, kStop, kCancel };
using OnToken = std::function<Continue(const Sample&)>;
// Prompt progress: tokens done of all. Returning false cancels.
using OnPrompt = std::function<bool(Index done, Index total)>;

struct EngineOptions {
  Index context = 0;  // tokens a sequence may have; 0: max_position_embeddings
  Index chunk = 256;  // prompt tokens computed at a time; does not change any bit
  DType cache_dtype = DType::kF32;
  TokenId num_tokens = 0;  // ids from here on are never sampled; 0: vocab_size
};

// Not thread-safe: one call at a time. Keeps references to the context and the model.
class Engine {
 public:
  Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options = {});

  // Throws InvalidRequest for an empty or too long prompt (the sentence has both numbers), unknown ids or parameters.
  Completion generate(const Request& request, const OnToken& on_token = {}, const OnPrompt& on_prompt = {});

  Index context() const { return options_.context; }
  // Forgets the sequence before.
  void reset();

 private:
  Index reusable_prefix(const Request& request) const;
  bool prefill(const Request& request, std::vector<float>& logits, const OnPrompt& on_prompt);
  void decode_logits(TokenId token, std::vector<float>& logits);
  void last_row_logits(const TensorRef& hidden, std::vector<float>& logits);

  Context& ctx_;
  const model::Transformer& transformer_;
  EngineOptions options_;
  model::SequenceState state_;
  std::vector<TokenId> cached_ids_;  // what state_ holds
};

}  // namespace hadal::infer
