// A prompt's text together with where each part came from. Only text that the chat template itself wrote (its literals,
// the bos and eos variables) may become added tokens; what a user wrote stays ordinary text, however it is spelled, so
// that no message can forge the end of a turn (rule 10).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::tokenizer {

// kContinued is user text too: that of the message whose end the prompt is to be cut at, while a template is rendered.
enum class Origin : unsigned char { kTemplate, kUser, kContinued };

struct Prompt {
  struct Run {
    std::size_t end;  // of this run in `text`; it begins where the run before ends
    Origin origin;
  };
  std::string text;
  std::vector<Run> runs;  // ascending; the last one ends at text.size(); neighbours differ in origin; no empty runs

  void append(std::string_view more, Origin origin) {
    if (more.empty()) return;
    text += more;
    if (!runs.empty() && runs.back().origin == origin)
      runs.back().end = text.size();
    else
      runs.push_back({text.size(), origin});
  }
};

}  // namespace hadal::tokenizer
