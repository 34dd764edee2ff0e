// An answer's symbols as events: thought, text, tool calls. However the answer is cut into pieces, the events put
// together are the same; what may be the beginning of a marker is held back; what is no markup after all is content.
#pragma once

#include <memory>
#include <string>

#include "hadal/chat/answer_events.h"
#include "hadal/chat/call_parser.h"
#include "hadal/chat/markup.h"
#include "hadal/chat/symbols.h"

namespace hadal::chat {

// Of a model, made once; parsers keep references to it.
struct AnswerFormat {
  AnswerFormat(const tokenizer::AddedTokens& tokens, Markup markup);
  AnswerFormat(const AnswerFormat&) = delete;
  AnswerFormat& operator=(const AnswerFormat&) = delete;

  Markup markup;
  Alphabet alphabet;
  CallMarkers calls;
  Symbols think, end_think;
};

struct AnswerOptions {
  bool thinking_open = false;  // the prompt ended within a thought (markup.h)
  bool tools = false;          // calls are parsed; otherwise their markup is text
  std::string call_prefix = "call_";
};

class AnswerParser {
 public:
  AnswerParser(const AnswerFormat& format, AnswerOptions options);

  Events push(SymbolView symbols);
  // The rest; nothing may be pushed behind it.
  Events finish();

  int calls() const { return out_.calls(); }
  bool thinking() const { return state_ == State::kReasoning; }

 private:
  enum class State { kStart, kThoughtBegins, kReasoning, kThoughtEnded, kContent, kCalls };

  Events run();
  bool step();  // false: no more to do with this input
  bool start();
  bool skip_line_breaks(State next);
  bool reasoning();
  bool content();
  bool calls_step();

  const AnswerFormat& format_;
  AnswerOptions options_;
  EventWriter out_;
  Input input_;
  State state_ = State::kStart;
  std::vector<Symbols> thought_ends_;
  std::size_t closing_ = 0;  // how many of them are the closing tag, the others begin tool calls
  std::unique_ptr<CallParser> parser_;
};

}  // namespace hadal::chat
