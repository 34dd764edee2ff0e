#include "hadal/infer/request.h"

#include <algorithm>

namespace hadal::infer {

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      return "error";
  }
  return "stop";
}

EngineOptions resolve(EngineOptions options, const config::Config& config) {
  if (options.context == 0) options.context = config.max_position_embeddings;
  HADAL_CHECK(options.context > 0 && options.context <= config.max_position_embeddings,
              "context: {} is not between 1 and the model's max_position_embeddings {}", options.context,
              config.max_position_embeddings);
  HADAL_CHECK(options.chunk > 0, "chunk: {} is not at least 1", options.chunk);
  HADAL_CHECK(options.max_pages >= 0, "max_pages: {} is negative", options.max_pages);
  if (options.max_pages > 0) options.context = std::min(options.context, options.max_pages * model::kPageTokens);
  HADAL_CHECK(options.sequences > 0, "sequences: {} is not at least 1", options.sequences);
  const auto vocab_size = static_cast<TokenId>(config.vocab_size);
  options.num_tokens = options.num_tokens == 0 ? vocab_size : std::min(options.num_tokens, vocab_size);
  return options;
}

void validate(const Request& request, const EngineOptions& resolved, const config::Config& config) {
  const auto length = static_cast<Index>(request.prompt.size());
  if (length == 0) throw InvalidRequest("prompt: it is empty, at least one token was expected");
  if (length > resolved.context)
    throw InvalidRequest(
        fmt::format("prompt: its {} tokens are more than the context of {}", length, resolved.context));
  for (TokenId id : request.prompt)
    if (id < 0 || id >= config.vocab_size)
      throw InvalidRequest(fmt::format("prompt: token id {} is not below vocab_size {}", id, config.vocab_size));
  const auto require = [](bool good, const char* field, Index value, std::string_view range) {
    if (!good) throw InvalidRequest(fmt::format("{} is {}, {} was expected", field, value, range));
  };
  require(request.max_tokens >= kNoAnswer, "max_tokens", request.max_tokens, "0 or more");
  require(request.min_tokens >= 0 && (request.max_tokens <= 0 || request.min_tokens <= request.max_tokens),
          "min_tokens", request.min_tokens, "a number from 0 to max_tokens");
  require(request.prompt_logprobs >= -1 && request.prompt_logprobs <= kMostLogprobs, "prompt_logprobs",
          request.prompt_logprobs, fmt::format("0 to {}", kMostLogprobs));
  Sampler(request.sampling, resolved.num_tokens);
}

}  // namespace hadal::infer
