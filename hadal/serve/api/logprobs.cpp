#include "hadal/serve/api/logprobs.h"

#include <cmath>

#include "hadal/serve/api/json.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::serve {
namespace {

// JSON has no infinity; vLLM's stand-in for it.
double finite(double logprob) {
  return std::isfinite(logprob) ? logprob : -9999.0;
}

Json bytes_of(const ServedModel& model, TokenId id) {
  if (!model.tokenizer) return nullptr;
  Json out = Json::array();
  for (const char c : model.tokenizer->token_bytes(id)) out.push_back(static_cast<unsigned char>(c));
  return out;
}

Json chat_token(const ServedModel& model, const Generation& generation, TokenId id, double logprob) {
  return {{"token", token_text(model, id, generation.tokens_as_ids)},
          {"logprob", finite(logprob)},
          {"bytes", bytes_of(model, id)}};
}

}  // namespace

std::string token_text(const ServedModel& model, TokenId id, bool as_id) {
  if (as_id || !model.tokenizer) return fmt::format("token_id:{}", id);
  const std::string_view bytes = model.tokenizer->token_bytes(id);
  std::string text = tokenizer::replace_invalid_utf8(bytes);
  if (text == bytes) return text;
  text = "bytes:";
  for (const char c : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

Json chat_logprobs(const ServedModel& model, const Generation& generation, std::span<const infer::Sample> samples) {
  Json content = Json::array();
  for (const infer::Sample& s : samples) {
    Json token = chat_token(model, generation, s.id, s.logprob);
    token["top_logprobs"] = Json::array();
    for (const infer::TokenLogprob& t : s.top)
      token["top_logprobs"].push_back(chat_token(model, generation, t.id, t.logprob));
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}};
}

CompletionLogprobs::CompletionLogprobs(const ServedModel& model, const Generation& generation, std::size_t offset)
    : model_(model), generation_(generation), offset_(offset), json_(std::make_unique<Json>()) {
  take();
}
CompletionLogprobs::~CompletionLogprobs() = default;

Json CompletionLogprobs::take() {
  Json out = std::move(*json_);
  *json_ = {{"text_offset", Json::array()},
            {"token_logprobs", Json::array()},
            {"tokens", Json::array()},
            {"top_logprobs", Json::array()}};
  return out;
}

void CompletionLogprobs::add_first(TokenId id) {
  Json& j = *json_;
  j["tokens"].push_back(token_text(model_, id, generation_.tokens_as_ids));
  j["token_logprobs"].push_back(nullptr);
  j["top_logprobs"].push_back(nullptr);
  j["text_offset"].push_back(offset_);
  if (model_.tokenizer) offset_ += model_.tokenizer->token_bytes(id).size();
}

void CompletionLogprobs::add(const infer::Sample& sample) {
  add_first(sample.id);
  Json& j = *json_;
  j["token_logprobs"].back() = finite(sample.logprob);
  Json top = Json::object();
  // The more probable one stays where two tokens read alike.
  for (const infer::TokenLogprob& t : sample.top) {
    const std::string text = token_text(model_, t.id, generation_.tokens_as_ids);
    if (!top.contains(text)) top[text] = finite(t.logprob);
  }
  const std::string own = j["tokens"].back().get<std::string>();
  if (!top.contains(own)) top[own] = finite(sample.logprob);
  j["top_logprobs"].back() = std::move(top);
}

Json prompt_logprobs(const ServedModel& model, const Generation& generation, std::span<const infer::Sample> samples) {
  Json out = Json::array({nullptr});
  for (const infer::Sample& s : samples) {
    Json tokens = Json::object();
    const auto add = [&](TokenId id, double logprob, Json rank) {
      tokens[std::to_string(id)] = {{"logprob", finite(logprob)},
                                    {"rank", std::move(rank)},
                                    {"decoded_token", token_text(model, id, generation.tokens_as_ids)}};
    };
    for (std::size_t i = 0; i < s.top.size(); ++i) add(s.top[i].id, s.top[i].logprob, i + 1);
    if (!tokens.contains(std::to_string(s.id))) add(s.id, s.logprob, nullptr);
    out.push_back(std::move(tokens));
  }
  return out;
}

}  // namespace hadal::serve
