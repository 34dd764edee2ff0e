// Template source to tokens, with Jinja's handling of white space around tags: trim_blocks and lstrip_blocks are on, as
// in the transformers library, "-" strips, "+" keeps.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hadal::tokenizer::jinja {

struct Token {
  enum class Kind {
    kData,
    kPrintBegin,
    kPrintEnd,
    kTagBegin,
    kTagEnd,
    kName,
    kInteger,
    kFloat,
    kString,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  std::string text;  // data, name, digits, the string's value, the operator
  int line = 1;
};

// `name` opens error sentences.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

}  // namespace hadal::tokenizer::jinja
