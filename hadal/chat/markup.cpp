#include "hadal/chat/markup.h"

#include "hadal/core/error.h"

namespace hadal::chat {

const ToolMarkers& tool_markers(ToolStyle style) {
  static const ToolMarkers deepseek = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
                                       "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"};
  static const ToolMarkers kimi = {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>",
                                   "<|tool_call_argument_begin|>", "<|tool_call_end|>"};
  static const ToolMarkers dsml = {"<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "<｜DSML｜invoke name=\"",
                                   "<｜DSML｜parameter name=\"", "</｜DSML｜invoke>"};
  static const ToolMarkers none;
  switch (style) {
    case ToolStyle::kV3:
    case ToolStyle::kV31:
      return deepseek;
    case ToolStyle::kKimi:
      return kimi;
    case ToolStyle::kDsml:
      return dsml;
    case ToolStyle::kNone:
      break;
  }
  return none;
}

Markup markup_of_family(std::string_view family, bool think_tokens) {
  const bool r1 = family == "deepseek-r1", v31 = family == "deepseek-v3.1", v32 = family == "deepseek-v3.2";
  Markup out;
  out.tools = r1 || family == "deepseek-v3" ? ToolStyle::kV3
              : v31                         ? ToolStyle::kV31
              : v32                         ? ToolStyle::kDsml
              : family == "kimi-k2"         ? ToolStyle::kKimi
                                            : ToolStyle::kNone;
  out.thinking = r1 || v31 || v32 || think_tokens;
  out.think_breaks = !v31 && !v32 && out.tools != ToolStyle::kKimi;
  return out;
}

Markup markup_of(const tokenizer::ChatTemplate* chat_template, const tokenizer::Tokenizer& tokenizer) {
  const bool think_tokens = tokenizer.added_token(kThink) && tokenizer.added_token(kEndThink);
  // V3.2 was published without a Jinja template; its markup has a token of its own.
  if (tokenizer.added_token("｜DSML｜") || (chat_template && chat_template->mentions("DSML")))
    return markup_of_family("deepseek-v3.2", think_tokens);
  return markup_of_family(chat_template ? chat_template->family() : "other", think_tokens);
}

bool thinking_open(const tokenizer::Prompt& prompt) {
  std::size_t open = std::string::npos, closed = std::string::npos;
  std::size_t begin = 0;
  for (const tokenizer::Prompt::Run& run : prompt.runs) {
    const std::string_view part = std::string_view(prompt.text).substr(begin, run.end - begin);
    // What users wrote says nothing, but for the beginning of an answer that is to be continued.
    if (run.origin == tokenizer::Origin::kTemplate || run.end == prompt.text.size()) {
      if (const auto at = part.rfind(kThink); at != std::string_view::npos) open = begin + at;
      if (const auto at = part.rfind(kEndThink); at != std::string_view::npos) closed = begin + at;
    }
    begin = run.end;
  }
  return open != std::string::npos && (closed == std::string::npos || closed < open);
}

}  // namespace hadal::chat
