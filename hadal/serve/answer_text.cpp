#include "hadal/serve/answer_text.h"

#include <algorithm>

namespace hadal::serve {

AnswerText::AnswerText(const tokenizer::Tokenizer* tokenizer, std::vector<TokenId> ends, std::vector<std::string> stop,
                       bool skip_special)
    : ends_(std::move(ends)), stops_(std::move(stop)) {
  if (tokenizer) decoder_.emplace(*tokenizer, skip_special);
}

std::string AnswerText::push(TokenId id, bool may_stop) {
  may_stop_ = may_stop;
  const bool ended = std::find(ends_.begin(), ends_.end(), id) != ends_.end();
  return ended || !decoder_ ? "" : stops_.push(decoder_->push(id), may_stop);
}

std::string AnswerText::finish() {
  if (!decoder_ || stops_.stopped()) return "";
  const std::string rest = stops_.push(decoder_->finish(), may_stop_);
  return stops_.stopped() ? rest : rest + stops_.finish();
}

}  // namespace hadal::serve
