// What a request demands of the text of its answer: OpenAI's response_format, vLLM's guided_* and structured_outputs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "hadal/grammar/structured.h"

namespace hadal::chat {

struct GuidedOutput {
  std::string param;  // the field that asks for it
  grammar::GrammarText grammar;
  std::vector<std::string> markers = {};  // texts in it that may not be spelled by control tokens of the model
};

// One of
//   response_format {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": …}}
//   guided_json (a schema as object or text), guided_regex, guided_choice (a list), guided_grammar (Lark)
//   structured_outputs {"json" | "regex" | "choice" | "grammar" | "json_object" | "structural_tag": …}
//   a structural tag: {"structures": [{"begin", "schema", "end"}], "triggers": […]}, as object or text; it may be the
//   response_format, too. Text is free up to a trigger; from there on it is one of the structures that begin with it.
// or none of them. Throws BadParameter for several and for what is not understood.
std::optional<GuidedOutput> read_guided(const nlohmann::ordered_json& request);

}  // namespace hadal::chat
