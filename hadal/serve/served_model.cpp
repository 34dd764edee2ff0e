#include "hadal/serve/served_model.h"

#include <nlohmann/json.hpp>

#include "hadal/chat/constraints.h"
#include "hadal/serve/api/error.h"

namespace hadal::serve {

const grammar::GrammarCompiler& LazyCompiler::get(const tokenizer::Tokenizer& tokenizer,
                                                  std::span<const TokenId> ends) {
  std::call_once(once_, [&] { compiler_.emplace(chat::make_compiler(tokenizer, ends)); });
  return *compiler_;
}

const grammar::GrammarCompiler& ServedModel::grammars() const {
  return compiler->get(needs_tokenizer(), end_tokens);
}

const tokenizer::Tokenizer& ServedModel::needs_tokenizer() const {
  if (!tokenizer)
    throw ApiError(400, "this model has no tokenizer: send token ids to /v1/completions", "", "no_tokenizer");
  return *tokenizer;
}

const tokenizer::ChatTemplate& ServedModel::needs_template() const {
  needs_tokenizer();
  if (!chat_template)
    throw ApiError(400, "this model has no chat template: use /v1/completions", "", "no_chat_template");
  return *chat_template;
}

std::optional<TokenId> ServedModel::bos() const {
  if (config.bos_token_id) return config.bos_token_id;
  return tokenizer ? tokenizer->added_token(tokenizer->config().bos_token) : std::nullopt;
}

std::vector<TokenId> ServedModel::encode(std::string_view text, bool add_bos, bool parse_special) const {
  const auto mode = parse_special ? tokenizer::AddedTokenMode::kRecognise : tokenizer::AddedTokenMode::kIgnore;
  std::vector<TokenId> ids = needs_tokenizer().encode(text, mode);
  const auto first = add_bos ? bos() : std::nullopt;
  // Of those who write control tokens themselves, some begin with this one.
  if (first && !(parse_special && !ids.empty() && ids[0] == *first)) ids.insert(ids.begin(), *first);
  return ids;
}

std::vector<TokenId> ServedModel::encode_messages(const nlohmann::ordered_json& messages,
                                                  const nlohmann::ordered_json& tools,
                                                  const tokenizer::RenderOptions& options) const {
  return needs_tokenizer().encode(needs_template().render(messages, tools, options));
}

}  // namespace hadal::serve
