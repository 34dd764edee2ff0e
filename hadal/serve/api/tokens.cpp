#include "hadal/serve/api/tokens.h"

#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/json.h"
#include "hadal/serve/api/logprobs.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::serve {
namespace {

// Switches that would only spoil the check for unknown fields.
void ignore_common(Fields& fields) {
  fields.ignore({"model", "user"});
}

std::vector<TokenId> tokens_of(Fields& fields, const Json& body, const ServedModel& model) {
  if (fields.find("messages")) {
    const Conversation c = read_conversation(fields, body, model);
    fields.ignore({"add_special_tokens", "return_token_strs"});  // templates write what is special
    return model.encode_messages(c.messages, c.tools, c.render);
  }
  std::string text;
  if (!fields.find("prompt")) fields.text("content", text);  // llama.cpp's name
  fields.text("prompt", text);
  bool add_special = true, parse_special = false;
  fields.flag("add_special_tokens", add_special);
  fields.flag("parse_special", parse_special);
  return model.encode(text, add_special, parse_special);
}

}  // namespace

Json tokenize(Fields& fields, const Json& body, const ServedModel& model) {
  if (!fields.find("prompt") && !fields.find("messages") && !fields.find("content"))
    throw ApiError::invalid("prompt", "prompt is missing (or messages)");
  bool strings = false;
  fields.flag("return_token_strs", strings);
  const std::vector<TokenId> ids = tokens_of(fields, body, model);
  ignore_common(fields);
  Json out = {{"count", ids.size()}, {"max_model_len", model.engine.context}, {"tokens", ids}};
  out["token_strs"] = nullptr;
  if (!strings) return out;
  out["token_strs"] = Json::array();
  for (const TokenId id : ids) out["token_strs"].push_back(token_text(model, id, false));
  return out;
}

Json detokenize(Fields& fields, const Json&, const ServedModel& model) {
  std::vector<TokenId> ids;
  if (!fields.find("tokens")) throw ApiError::invalid("tokens", "tokens is missing");
  fields.ids("tokens", ids);
  ignore_common(fields);
  const auto& tokenizer = model.needs_tokenizer();
  for (const TokenId id : ids)
    if (!tokenizer.is_assigned(id))
      fields.refuse("tokens", fmt::format("a list with {}, which is no token of this model", id));
  const std::string text = tokenizer::replace_invalid_utf8(tokenizer.decode(ids));
  return {{"prompt", text}, {"content", text}};
}

Json tokenizer_info(const ServedModel& model) {
  const tokenizer::TokenizerConfig& config = model.needs_tokenizer().config();
  const auto text = [](const std::string& token) { return token.empty() ? Json() : Json(token); };
  return {{"tokenizer_class", "hadal"},
          {"bos_token", text(config.bos_token)},
          {"eos_token", text(config.eos_token)},
          {"add_bos_token", true},
          {"vocab_size", model.tokenizer->vocab_size()},
          {"model_max_length", model.engine.context},
          {"chat_template", model.chat_template ? Json(model.chat_template->source()) : Json()}};
}

Json apply_template(Fields& fields, const Json& body, const ServedModel& model) {
  const Conversation c = read_conversation(fields, body, model);
  ignore_common(fields);
  return {{"prompt", model.needs_template().render(c.messages, c.tools, c.render).text}};
}

}  // namespace hadal::serve
