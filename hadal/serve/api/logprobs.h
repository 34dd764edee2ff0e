// Log-probabilities in the API's two forms.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "hadal/serve/api/generation.h"

namespace hadal::serve {

// The text of a token as JSON can hold it: its characters, or "bytes:\xe2\x80" where they are cut.
std::string token_text(const ServedModel& model, TokenId id, bool as_id);

// {"content": [{"token", "logprob", "bytes", "top_logprobs": [...]}]}
nlohmann::ordered_json chat_logprobs(const ServedModel& model, const Generation& generation,
                                     std::span<const infer::Sample> samples);

// The lists of /v1/completions, to which samples are added; `offset` is where the next token's text begins.
class CompletionLogprobs {
 public:
  using Json = nlohmann::ordered_json;
  CompletionLogprobs(const ServedModel& model, const Generation& generation, std::size_t offset);
  ~CompletionLogprobs();

  void add_first(TokenId id);  // of a prompt: nothing is known before it
  void add(const infer::Sample& sample);
  std::size_t offset() const { return offset_; }
  Json take();

 private:
  const ServedModel& model_;
  const Generation& generation_;
  std::size_t offset_;
  std::unique_ptr<Json> json_;
};

// vLLM's prompt_logprobs: null for the first token, then {"id": {"logprob", "rank", "decoded_token"}} for each.
nlohmann::ordered_json prompt_logprobs(const ServedModel& model, const Generation& generation,
                                       std::span<const infer::Sample> samples);

}  // namespace hadal::serve
