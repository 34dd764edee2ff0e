// Text from tokens as they come: a character whose bytes are spread over several tokens is held back until it is whole
// (rule 45).
#pragma once

#include <string>

#include "hadal/tokenizer/tokenizer.h"

namespace hadal::tokenizer {

class StreamDecoder {
 public:
  // Keeps a reference to the tokenizer.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // The whole characters that this token completes; bytes that can never become one come out as U+FFFD.
  std::string push(TokenId id);
  // What is left at the end, U+FFFD for a cut character.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace hadal::tokenizer
