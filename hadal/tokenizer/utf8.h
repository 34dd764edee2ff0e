// UTF-8 by hand where libraries would throw on what is not UTF-8: tokenizers must carry any bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal::tokenizer {

struct CodePoint {
  std::uint32_t value = 0;
  std::size_t length = 0;  // bytes; 0: no valid character starts here
};

// The character at the start of `text` (surrogates, overlong forms and values above 10FFFF are not valid).
CodePoint decode_utf8(std::string_view text);
void append_utf8(std::string& out, std::uint32_t code_point);

// How many of the last bytes are the beginning of a character that more bytes could complete (0 to 3).
std::size_t incomplete_utf8_tail(std::string_view text);
// The text with every byte that is not part of a valid character replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace hadal::tokenizer
