// Whether an answer begins with a thought, and how long it may be, in the spellings of several APIs.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "hadal/tokenizer/chat_template.h"

namespace hadal::chat {

struct ThinkingSwitches {
  std::optional<bool> enabled;        // not set: as the template does by itself
  std::optional<std::size_t> budget;  // tokens of thought, then the closing tag is forced
  // For RenderOptions::variables: chat_template_kwargs, with the template's own switches set.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();

  // The budget of an answer whose prompt ends within a thought or not: a model that always thinks (R1) is kept from it
  // by a budget of 0. None: no limit, or nothing to limit.
  std::optional<std::size_t> budget_of(bool thinking_open) const;
};

// From the fields of a request, the first of these that is there decides: chat_template_kwargs.thinking,
// chat_template_kwargs.enable_thinking, thinking ({"type": "enabled" | "disabled"} or a boolean), enable_thinking,
// reasoning_effort ("none" and "minimal" are off, others on). The budget is thinking_budget or thinking.budget_tokens.
// Throws BadParameter.
ThinkingSwitches read_switches(const nlohmann::ordered_json& request, const tokenizer::ChatTemplate& chat_template);

}  // namespace hadal::chat
