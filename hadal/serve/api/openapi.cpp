#include "hadal/serve/api/openapi.h"

#include <vector>

#include "hadal/serve/api/json.h"

namespace hadal::serve {
namespace {

struct Field {
  const char* name;
  const char* type;  // of JSON schema; "": any
  const char* what;
};
struct Operation {
  const char* path;
  const char* method;
  const char* summary;
  const char* required;  // field; nullptr: no body
  std::vector<Field> fields = {};
};

std::vector<Field> operator+(std::vector<Field> a, const std::vector<Field>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const std::vector<Field> kGeneration = {
    {"model", "string", "May be absent or anything: one model is served"},
    {"max_tokens", "integer", "Tokens an answer may have"},
    {"max_completion_tokens", "integer", "The same"},
    {"min_tokens", "integer", "No end before so many"},
    {"temperature", "number", "0 is greedy"},
    {"top_p", "number", ""},
    {"top_k", "integer", "0 or -1: all"},
    {"min_p", "number", ""},
    {"repetition_penalty", "number", ""},
    {"presence_penalty", "number", ""},
    {"frequency_penalty", "number", ""},
    {"logit_bias", "object", "Token id to what is added to its logit"},
    {"seed", "integer", "Same seed, same answer; random without one"},
    {"n", "integer", "Answers to a prompt"},
    {"stop", "", "A string or several, before which the answer ends"},
    {"stop_token_ids", "array", "Tokens that end the answer"},
    {"include_stop_str_in_output", "boolean", ""},
    {"ignore_eos", "boolean", "The model's own end tokens do not end the answer"},
    {"skip_special_tokens", "boolean", "Default true"},
    {"stream", "boolean", "Server-sent events, the last one [DONE]"},
    {"stream_options", "object", "include_usage, continuous_usage_stats"},
    {"prompt_logprobs", "integer", "Of the prompt's tokens, as vLLM gives them"},
    {"return_token_ids", "boolean", ""},
    {"return_tokens_as_token_ids", "boolean", "token_id:17 instead of text in logprobs"},
    {"priority", "integer", "Lower ones first"},
    {"cache_salt", "string", "Only requests of one salt share cached prompts"},
};

const std::vector<Field> kConversation = {
    {"messages", "array", "The conversation"},
    {"tools", "array", "Functions the model may call"},
    {"chat_template", "string", "Name of one of the model's templates"},
    {"chat_template_kwargs", "object", "Variables of the template"},
    {"add_generation_prompt", "boolean", ""},
    {"continue_final_message", "boolean", "Go on with the last message (or its \"prefix\": true)"},
};

const std::vector<Field> kAnswerForm = {
    {"tool_choice", "", "auto, none, required or a named function"},
    {"parallel_tool_calls", "boolean", ""},
    {"response_format", "object", "text, json_object or json_schema"},
    {"structured_outputs", "object", "json, regex, choice or grammar"},
    {"thinking", "", "{\"type\": \"enabled\" | \"disabled\"}"},
    {"reasoning_effort", "string", ""},
    {"thinking_budget", "integer", "Tokens of thought, then it is closed"},
    {"logprobs", "boolean", ""},
    {"top_logprobs", "integer", "0 to 20"},
};

const std::vector<Field> kText = {
    {"prompt", "", "A string, a list of them, token ids or a list of such lists"},
    {"suffix", "string", "What is to follow behind the answer (fill in the middle)"},
    {"echo", "boolean", "The prompt is part of the answer"},
    {"logprobs", "integer", "0 to 20; with echo those of the prompt too"},
    {"add_special_tokens", "boolean", "BOS before text (default true)"},
    {"parse_special", "boolean", "Control tokens spelled in text are meant (default false)"},
    {"truncate_prompt_tokens", "integer", "Keep so many of the last tokens; -1: as the context allows"},
};

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = {
      {"/v1/chat/completions", "post", "Answer a conversation", "messages", kConversation + kGeneration + kAnswerForm},
      {"/v1/completions", "post", "Continue text or token ids", "prompt", kText + kGeneration},
      {"/v1/embeddings",
       "post",
       "Hidden states of texts",
       "input",
       {{"input", "", "As prompt of /v1/completions"},
        {"encoding_format", "string", "float or base64"},
        {"pooling", "string", "last (default) or mean"},
        {"normalize", "boolean", "To length 1 (default true)"}}},
      {"/v1/models", "get", "The model under its names", nullptr},
      {"/tokenize",
       "post",
       "Text or messages to token ids",
       nullptr,
       {{"prompt", "string", ""},
        {"messages", "array", ""},
        {"add_special_tokens", "boolean", ""},
        {"parse_special", "boolean", ""},
        {"return_token_strs", "boolean", ""}}},
      {"/detokenize", "post", "Token ids to text", "tokens", {{"tokens", "array", ""}}},
      {"/tokenizer_info", "get", "Special tokens and the chat template", nullptr},
      {"/apply-template", "post", "The prompt of a conversation", "messages", kConversation},
      {"/health", "get", "200 while the engine runs", nullptr},
      {"/ready", "get", "200 while new work is taken", nullptr},
      {"/metrics", "get", "Counters for Prometheus", nullptr},
  };
  return all;
}

Json body_of(const Operation& o) {
  Json properties = Json::object();
  for (const Field& f : o.fields) {
    Json& p = properties[f.name] = Json::object();
    if (*f.type) p["type"] = f.type;
    if (std::string_view(f.type) == "array") p["items"] = Json::object();
    if (*f.what) p["description"] = f.what;
  }
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (o.required) schema["required"] = Json::array({o.required});
  return {{"required", true}, {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
}

}  // namespace

std::string openapi_json(const std::string& server_version) {
  Json paths = Json::object();
  for (const Operation& o : operations()) {
    Json operation = {{"summary", o.summary}};
    if (!o.fields.empty()) operation["requestBody"] = body_of(o);
    const Json error = {{"description", "An error in OpenAI's form"}};
    operation["responses"] = {{"200", {{"description", "OK"}}}, {"default", error}};
    paths[o.path][o.method] = std::move(operation);
  }
  return text_of({{"openapi", "3.1.0"},
                  {"info", {{"title", "Hadal"}, {"version", server_version}}},
                  {"components", {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
                  {"security", Json::array({{{"key", Json::array()}}, Json::object()})},
                  {"paths", std::move(paths)}});
}

}  // namespace hadal::serve
