#include "hadal/chat/answer_parser.h"

namespace hadal::chat {

AnswerFormat::AnswerFormat(const tokenizer::AddedTokens& tokens, Markup how)
    : markup(how),
      alphabet(tokens),
      calls(markup.tools, alphabet),
      think(alphabet.marker(kThink)),
      end_think(alphabet.marker(kEndThink)) {}

AnswerParser::AnswerParser(const AnswerFormat& format, AnswerOptions options)
    : format_(format), options_(std::move(options)), out_(options_.call_prefix) {
  if (format.markup.think_breaks) thought_ends_ = {U"\n\n" + format.end_think, U"\n" + format.end_think};
  thought_ends_.push_back(format.end_think);
  closing_ = thought_ends_.size();
  options_.tools = options_.tools && format.calls.style != ToolStyle::kNone;
  // A thought may speak of markup, but not in tokens.
  if (options_.tools && format.calls.are_tokens)
    thought_ends_.insert(thought_ends_.end(), format.calls.begins.begin(), format.calls.begins.end());
  if (options_.thinking_open) state_ = State::kThoughtBegins;
}

Events AnswerParser::push(SymbolView symbols) {
  input_.text += symbols;
  return run();
}

Events AnswerParser::finish() {
  input_.last = true;
  return run();
}

Events AnswerParser::run() {
  while (step()) {
  }
  return out_.take();
}

bool AnswerParser::step() {
  switch (state_) {
    case State::kStart:
      return start();
    case State::kThoughtBegins:
      return skip_line_breaks(State::kReasoning);
    case State::kReasoning:
      return reasoning();
    case State::kThoughtEnded:
      return skip_line_breaks(State::kContent);
    case State::kContent:
      return content();
    case State::kCalls:
      return calls_step();
  }
  return false;
}

// A thought that the model opens itself stands first.
bool AnswerParser::start() {
  std::size_t i = 0;
  while (i < input_.text.size() && (input_.text[i] == U'\n' || input_.text[i] == U' ')) ++i;
  const SymbolView rest = SymbolView(input_.text).substr(i);
  if (format_.markup.thinking && rest.starts_with(format_.think)) {
    input_.take(i + format_.think.size());
    state_ = State::kThoughtBegins;
    return true;
  }
  if (format_.markup.thinking && !input_.last && SymbolView(format_.think).starts_with(rest)) return false;
  state_ = State::kContent;
  return true;
}

bool AnswerParser::skip_line_breaks(State next) {
  if (format_.markup.think_breaks)
    while (!input_.text.empty() && input_.text.front() == U'\n') input_.take(1);
  if (input_.text.empty() && !input_.last) return false;
  state_ = next;
  return true;
}

bool AnswerParser::reasoning() {
  const Found f = find_marker(input_, thought_ends_);
  out_.reasoning(format_.alphabet.shown(input_.take(f.at)));
  if (f.marker < 0) return false;
  if (static_cast<std::size_t>(f.marker) < closing_) {
    input_.take(f.size);
    state_ = State::kThoughtEnded;
  } else {
    state_ = State::kContent;
  }
  return true;
}

bool AnswerParser::content() {
  static const std::vector<Symbols> none;
  const Found f = find_marker(input_, options_.tools ? format_.calls.begins : none);
  out_.content(format_.alphabet.shown(input_.take(f.at)));
  if (f.marker < 0) return false;
  // Line breaks that belong to a marker.
  while (!input_.text.starts_with(format_.calls.section_begin) && !input_.text.starts_with(format_.calls.call_begin))
    input_.take(1);
  parser_ = make_call_parser(format_.calls, format_.alphabet);
  state_ = State::kCalls;
  return true;
}

bool AnswerParser::calls_step() {
  const CallParser::Step step = parser_->step(input_, out_);
  if (step == CallParser::Step::kDone) state_ = State::kContent;
  return step != CallParser::Step::kMore && !(input_.last && input_.text.empty() && step == CallParser::Step::kDone);
}

}  // namespace hadal::chat
