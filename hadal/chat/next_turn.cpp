#include "hadal/chat/next_turn.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace {

using io::Json;
using tokenizer::TokenId;

// Puts the text to be continued before the answer's. False: it is not known how callers will put them together.
bool join(const Json& begun, Json& answer) {
  const auto is_text = [](const Json& m) { return m.contains("content") && m["content"].is_string(); };
  if (!is_text(begun) || !is_text(answer) || answer.contains("reasoning_content")) return false;
  answer["content"] = begun["content"].get<std::string>() + answer["content"].get<std::string>();
  return true;
}

// What is said behind the answer.
Json reply(const Json& answer, const char* text) {
  Json out = Json::array();
  if (const auto calls = answer.find("tool_calls"); calls != answer.end() && calls->is_array())
    for (const Json& call : *calls)
      out.push_back({{"role", "tool"}, {"tool_call_id", call.value("id", "")}, {"content", text}});
  if (out.empty()) out.push_back({{"role", "user"}, {"content", text}});
  return out;
}

}  // namespace

std::vector<TokenId> next_turn(const tokenizer::Tokenizer& tokenizer, const tokenizer::ChatTemplate& chat,
                               Json messages, const Json& tools, tokenizer::RenderOptions render, Json answer) {
  if (render.continue_final_message) {
    if (!join(messages.back(), answer)) return {};
    messages.erase(messages.size() - 1);
  }
  render.continue_final_message = false;
  render.add_generation_prompt = true;
  messages.push_back(answer);
  const auto prompt = [&](const char* text) {
    Json all = messages;
    for (Json& message : reply(answer, text)) all.push_back(std::move(message));
    return tokenizer.encode(chat.render(all, tools, render));
  };
  try {
    std::vector<TokenId> one = prompt("Why?");
    const std::vector<TokenId> other = prompt("7 or 8");
    one.erase(std::mismatch(one.begin(), one.end(), other.begin(), other.end()).first, one.end());
    return one;
  } catch (const InvalidRequest&) {
    return {};
  }
}

}  // namespace hadal::chat
