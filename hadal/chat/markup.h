// How a model marks thoughts and tool calls in its answers.
#pragma once

#include <string>
#include <string_view>

#include "hadal/chat/symbols.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::chat {

enum class ToolStyle {
  kNone,
  kV3,    // V3, R1: <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME, line break, a ```json fence around the arguments
  kV31,   // V3.1: <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS
  kKimi,  // Kimi-K2: <|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>ARGUMENTS
  kDsml,  // V3.2: <｜DSML｜invoke name="NAME"> and a <｜DSML｜parameter> for each argument
};

struct Markup {
  ToolStyle tools = ToolStyle::kNone;
  bool thinking = false;      // answers may have a thought
  bool think_breaks = false;  // the thought stands on lines of its own: line breaks beside its tags are markup
};

inline constexpr const char* kThink = "<think>";
inline constexpr const char* kEndThink = "</think>";

// The spellings of a style; empty where it has none. Call: call_begin, header, arguments_begin, arguments, call_end.
struct ToolMarkers {
  std::string section_begin, section_end, call_begin, separator, call_end;
};
const ToolMarkers& tool_markers(ToolStyle style);

// "deepseek-v3", "deepseek-r1", "deepseek-v3.1", "deepseek-v3.2", "kimi-k2"; others have no tool calls.
Markup markup_of_family(std::string_view family, bool think_tokens);
// By the model's template (nullptr: none) and its added tokens.
Markup markup_of(const tokenizer::ChatTemplate* chat_template, const tokenizer::Tokenizer& tokenizer);

// Whether an answer to this prompt begins within a thought.
bool thinking_open(const tokenizer::Prompt& prompt);

}  // namespace hadal::chat
