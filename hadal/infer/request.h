// What an engine is asked and what it answers: token ids in, token ids out.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/grammar/token_constraint.h"
#include "hadal/infer/sampler.h"
#include "hadal/infer/speculation.h"
#include "hadal/model/transformer.h"

namespace hadal::infer {

enum class FinishReason { kStop, kLength, kCancelled, kDeadline, kError };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled", "deadline", "error"

// Which cache entries of the sequence before may serve again for a common prefix.
enum class CacheReuse {
  kSameBits,  // those that a fresh start would compute alike: tokens that were prompt then and are prompt now
  kAny,       // generated ones too: a chat goes on from its own answers
};

// The hidden states of a prompt as one vector, instead of an answer.
enum class Pooling { kNone, kLast, kMean };

// As max_tokens: the prompt is computed, nothing is sampled.
inline constexpr Index kNoAnswer = -1;

struct Request {
  using Clock = std::chrono::steady_clock;

  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling = {};
  Index max_tokens = 0;                      // 0: up to the context's end; kNoAnswer
  Index min_tokens = 0;                      // stop_token_ids are not sampled before so many
  std::vector<TokenId> stop_token_ids = {};  // end the answer; the end token is part of it
  std::uint64_t choice = 0;                  // which of several answers to one prompt: another stream of random numbers
  CacheReuse reuse = CacheReuse::kSameBits;

  std::shared_ptr<grammar::TokenConstraint> constraint = {};  // of this answer alone
  int prompt_logprobs = -1;  // of every prompt token but the first: its own and so many of the best; -1: none
  Pooling pooling = Pooling::kNone;

  // Who asks. Those that wait take turns; only requests of one salt share the pages of their prompts.
  std::string tenant = {};
  std::string cache_salt = {};
  int priority = 0;  // lower ones first
  std::optional<Clock::time_point> deadline = {};
};

struct Completion {
  std::vector<TokenId> tokens;  // the end token included
  FinishReason finish_reason = FinishReason::kStop;
  std::string error = {};  // with kError: what this answer, and no other, could not be gone on with
  Index prompt_tokens = 0;
  Index cached_tokens = 0;  // of the prompt, taken from what others have left
  double prompt_seconds = 0;
  double decode_seconds = 0;                 // all but the first token
  std::vector<Sample> prompt_logprobs = {};  // of prompt tokens 1, 2, ..., if they were asked for
  std::vector<float> embedding = {};         // [hidden_size], with Request::pooling
  // Tokens that were drafted and verified (speculation.h), and how many of them were right.
  Index drafted_tokens = 0, accepted_tokens = 0;
};

// Called for every token as it is sampled. Anything but kYes ends the answer: kStop if the caller's own condition is
// met (a stop string), kCancel if the user lost interest.
enum class Continue { kYes, kStop, kCancel };
using OnToken = std::function<Continue(const Sample&)>;

class PageStore;

struct EngineOptions {
  Index context = 0;   // tokens a sequence may have; 0: max_position_embeddings
  Index chunk = 1024;  // prompt tokens in a pass; does not change any bit
  DType cache_dtype = DType::kF32;
  TokenId num_tokens = 0;  // ids from here on are never sampled; 0: vocab_size
  Index sequences = 1;     // that run at a time
  // Pages of 128 tokens (model/page_pool.h) for all caches together, and what ended sequences have left is in what of
  // them nobody needs; 0: as many as those that run need, and what was left within as many as ran at a time so far, or
  // within cached_bytes.
  Index max_pages = 0;
  std::uint64_t cached_bytes = std::uint64_t{64} << 20;
  // While others decode, a pass over prompts pauses between layers, so that nobody waits long for a token; otherwise
  // prompts and those that decode share passes, which is more work done in all. No bit changes.
  bool pause_prompts = true;
  // Memory in which prompts of several chunks keep their keys and values, all together. Of a layer that does not fit
  // each chunk makes all of them again; no bit changes.
  std::uint64_t kept_bytes = std::uint64_t{1} << 30;
  // Where whole pages of prompts are kept for later engines with the same bits, and found; it must outlive the engine.
  PageStore* pages_on_disk = nullptr;
  Speculate speculate = Speculate::kOff;  // does not change any bit
  Index most_drafts = 3;                  // by the MTP layer, of a sequence and step
  Index fixed_drafts = 0;                 // always so many, whether that pays or not; 0: as many as pay
  // For benchmarks: the share of drafts that count as right, whatever the model says. Answers mean nothing then.
  std::optional<double> simulated_acceptance = {};
};

// The options with their zeros filled in; throws Error for what the model does not allow.
EngineOptions resolve(EngineOptions options, const config::Config& config);

// Throws InvalidRequest for an empty or too long prompt (the sentence has both numbers), unknown ids or parameters out
// of range.
void validate(const Request& request, const EngineOptions& resolved, const config::Config& config);

}  // namespace hadal::infer
