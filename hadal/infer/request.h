// What an engine is asked and what it answers: token ids in, token ids out.
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

// Called for every token as it is sampled. Anything but kYes ends the answer: kStop if the caller's own condition is
// met (a stop string), kCancel if the user lost interest.
enum class Continue { kYes, kStop, kCancel };
using OnToken = std::function<Continue(const Sample&)>;

struct EngineOptions {
  Index context = 0;   // tokens a sequence may have; 0: max_position_embeddings
  Index chunk = 1024;  // prompt tokens in a pass; does not change any bit
  DType cache_dtype = DType::kF32;
  TokenId num_tokens = 0;  // ids from here on are never sampled; 0: vocab_size
  Index sequences = 1;     // that run at a time
  Index max_pages = 0;     // of 128 tokens (model/page_pool.h), for the caches of all that run; 0: no limit
  // Memory in which prompts of several chunks keep their keys and values, all together. Of a layer that does not fit
  // each chunk makes all of them again; no bit changes.
  std::uint64_t kept_bytes = std::uint64_t{1} << 30;
};

// The options with their zeros filled in; throws Error for what the model does not allow.
EngineOptions resolve(EngineOptions options, const config::Config& config);

// Throws InvalidRequest for an empty or too long prompt (the sentence has both numbers), unknown ids or parameters.
void validate(const Request& request, const EngineOptions& resolved, const config::Config& config);

}  // namespace hadal::infer
