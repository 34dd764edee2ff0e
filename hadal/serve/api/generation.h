// What completions and chat completions have in common: the fields of their requests, and what those ask of the engine.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "hadal/chat/guided.h"
#include "hadal/chat/tools.h"
#include "hadal/infer/request.h"
#include "hadal/serve/api/fields.h"
#include "hadal/serve/served_model.h"

namespace hadal::serve {

// Of counts in requests.
inline constexpr std::int64_t kMostTokens = std::numeric_limits<std::int32_t>::max();

// How the service treats requests; the operator's choice.
struct ApiOptions {
  bool testing = false;             // takes force_tokens
  std::int64_t most_prompts = 256;  // of one completion request
  std::int64_t most_choices = 128;
  std::int64_t request_seconds = 3600;  // in which an answer must have ended
  bool reuse_generated = false;         // CacheReuse::kAny
};

struct Prompt {
  std::vector<TokenId> ids;
  std::optional<std::string> text = {};  // as it was given, if it was text
};

struct Generation {
  std::vector<Prompt> prompts;
  infer::Request request;  // of every prompt and choice, but for those two
  std::int64_t n = 1;      // answers to each prompt
  std::vector<std::string> stop;
  std::vector<TokenId> end_tokens;  // whose text is not shown: request.stop_token_ids
  bool include_stop = false, skip_special = true;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool return_token_ids = false, tokens_as_ids = false;
  bool echo = false;
  std::vector<TokenId> forced;  // with ApiOptions::testing
  bool nothing_new = false;     // max_tokens 0: only the prompt is looked at
  std::int64_t created = 0;     // Unix time
  std::string id;

  int logprobs() const { return request.sampling.top_logprobs; }
};

// What the answers of the prompts may be; `tools` are empty and no thought is open in completions. Throws ApiError.
struct Form {
  chat::ToolRequest tools = {};
  std::optional<chat::GuidedOutput> guided = {};
  bool thinking_open = false;
  std::optional<std::size_t> budget = {};
};
// response_format, guided_*, structured_outputs.
std::optional<chat::GuidedOutput> read_guided(Fields& fields, const nlohmann::ordered_json& body);
void constrain(const Form& form, const ServedModel& model, Generation& out);

// What `hadal generate --input` reads too.
// Sampling, each field over what `to` is.
void read_sampling(Fields& fields, infer::SamplingParams& to);
void read_stops(Fields& fields, std::vector<std::string>& stop);
// add_generation_prompt, continue_final_message, chat_template, documents. messages: null without any.
void read_render(Fields& fields, const nlohmann::ordered_json& messages, tokenizer::RenderOptions& to);

// Fields of both, but for prompt, logprobs and the limit of tokens.
void read_generation(Fields& fields, const ServedModel& model, const ApiOptions& options, Generation& out);

// The parameters that the model's makers or nobody want: generation_config.json over neutral values.
infer::SamplingParams default_sampling(const io::GenerationConfig& defaults);

// The requests of all prompts and choices in their order. Throws ApiError for what the engine would refuse.
std::vector<infer::Request> engine_requests(const Generation& generation, const ServedModel& model,
                                            const std::string& prompt_field);

// A string, a list of them, token ids or a list of such lists, and the fields that go with them. Throws ApiError.
std::vector<Prompt> read_prompts(Fields& fields, const char* field, const nlohmann::ordered_json& value,
                                 const ServedModel& model, const ApiOptions& options);

// /v1/completions. Throws ApiError, InvalidRequest.
Generation read_completion(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model,
                           const ApiOptions& options);

}  // namespace hadal::serve
