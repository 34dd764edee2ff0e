#include "hadal/chat/answer_reader.h"

namespace hadal::chat {

AnswerReader::AnswerReader(const tokenizer::Tokenizer& tokenizer, const AnswerFormat& format, AnswerOptions options,
                           std::vector<std::string> stop)
    : format_(format), decoder_(tokenizer), parser_(format, std::move(options)), stops_(std::move(stop)) {}

Events AnswerReader::push(tokenizer::TokenId token, bool may_stop) {
  may_stop_ = may_stop;
  Events out;
  if (format_.alphabet.is_token(token)) {
    filter(parser_.push(Alphabet::text(decoder_.finish())), out);
    filter(parser_.push(Symbols(1, format_.alphabet.symbol(token))), out);
  } else {
    filter(parser_.push(Alphabet::text(decoder_.push(token))), out);
  }
  return out;
}

Events AnswerReader::finish() {
  Events out;
  filter(parser_.push(Alphabet::text(decoder_.finish())), out);
  filter(parser_.finish(), out);
  if (std::string held = stops_.finish(); !held.empty()) out.push_back({Event::Kind::kContent, std::move(held)});
  return out;
}

void AnswerReader::filter(Events events, Events& out) {
  for (Event& event : events) {
    if (stops_.stopped()) return;
    if (event.kind == Event::Kind::kContent) {
      event.text = stops_.push(event.text, may_stop_);
      if (event.text.empty()) continue;
    } else if (const std::string held = stops_.finish(); !held.empty()) {
      out.push_back({Event::Kind::kContent, held});
    }
    out.push_back(std::move(event));
  }
}

}  // namespace hadal::chat
