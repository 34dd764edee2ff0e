#include "hadal/tokenizer/stream_decoder.h"

#include <utility>

#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer {

std::string StreamDecoder::push(TokenId id) {
  pending_ += tokenizer_.decode(std::span(&id, 1), skip_special_);
  const std::size_t whole = pending_.size() - incomplete_utf8_tail(pending_);
  std::string out = replace_invalid_utf8(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return out;
}

std::string StreamDecoder::finish() {
  return replace_invalid_utf8(std::exchange(pending_, {}));
}

}  // namespace hadal::tokenizer
