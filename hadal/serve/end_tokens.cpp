#include "hadal/serve/end_tokens.h"

#include <nlohmann/json.hpp>

#include "hadal/core/error.h"

namespace hadal::serve {

EndTokens end_tokens(const io::GenerationConfig& generation, const config::Config& config,
                     const tokenizer::Tokenizer* tokenizer) {
  if (!generation.eos_token_ids.empty()) return {generation.eos_token_ids, "generation_config.json"};
  if (!config.eos_token_ids.empty()) return {config.eos_token_ids, "config.json"};
  if (tokenizer)
    if (const auto eos = tokenizer->added_token(tokenizer->config().eos_token))
      return {{*eos}, "tokenizer_config.json"};
  return {};
}

std::optional<config::TokenId> end_of_turn(const tokenizer::ChatTemplate& chat, const tokenizer::Tokenizer& tokenizer) {
  const nlohmann::ordered_json messages = {{{"role", "user"}, {"content", "ping?"}},
                                           {{"role", "assistant"}, {"content", "pong"}}};
  try {
    const std::string text = chat.render(messages, nullptr).text;
    const std::size_t answer = text.rfind("pong");
    if (answer == text.npos) return std::nullopt;
    tokenizer::Prompt behind;
    behind.append(std::string_view(text).substr(answer + 4), tokenizer::Origin::kTemplate);
    for (const auto id : tokenizer.encode(behind)) {
      const std::string_view bytes = tokenizer.token_bytes(id);
      if (tokenizer.added_token(bytes) == id) return id;
    }
  } catch (const Error&) {  // a template that refuses such a conversation
  }
  return std::nullopt;
}

}  // namespace hadal::serve
