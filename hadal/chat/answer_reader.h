// From the tokens of an answer to its events: characters put together, stop strings taken out, markup parsed.
#pragma once

#include "hadal/chat/answer_parser.h"
#include "hadal/chat/stop_strings.h"
#include "hadal/tokenizer/stream_decoder.h"

namespace hadal::chat {

class AnswerReader {
 public:
  // Keeps references. stop: strings at which the content ends, the thought and tool calls are not searched for them.
  AnswerReader(const tokenizer::Tokenizer& tokenizer, const AnswerFormat& format, AnswerOptions options,
               std::vector<std::string> stop = {});

  // Of an end token nothing comes out, whether it is pushed or not. Without `may_stop` no stop string ends here.
  Events push(tokenizer::TokenId token, bool may_stop = true);
  // What was held back, at the end of the answer.
  Events finish();

  bool stopped() const { return stops_.stopped(); }            // a stop string is there: the answer has ended
  const std::string& found() const { return stops_.found(); }  // that one; empty: none
  int calls() const { return parser_.calls(); }                // finish_reason is "tool_calls" if there are any
  bool thinking() const { return parser_.thinking(); }

 private:
  void filter(Events events, Events& out);

  const AnswerFormat& format_;
  tokenizer::StreamDecoder decoder_;
  AnswerParser parser_;
  StopStrings stops_;
  bool may_stop_ = true;
};

}  // namespace hadal::chat
