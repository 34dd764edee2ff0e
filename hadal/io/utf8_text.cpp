#include "hadal/io/utf8_text.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "hadal/core/error.h"

namespace hadal::io {
namespace {

bool fits_64_bits(std::string_view digits) {
  std::uint64_t unsigned_value = 0;
  std::int64_t value = 0;
  const char *begin = digits.data(), *end = digits.data() + digits.size();
  return std::from_chars(begin, end, value).ec == std::errc() ||
         std::from_chars(begin, end, unsigned_value).ec == std::errc();
}

}  // namespace

std::string_view utf8_text(std::string_view bytes, std::string_view where) {
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
  // Without a mark, ASCII in UTF-16 has a zero in one of the first two bytes.
  const bool wide = bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF") ||
                    (bytes.size() >= 2 && (bytes[0] == '\0') != (bytes[1] == '\0'));
  HADAL_CHECK(!wide, "{}: is UTF-16 text, as Windows writes it; save it as UTF-8", where);
  return bytes;
}

void check_integers(std::string_view text, std::string_view where) {
  constexpr std::string_view kNumber = "+-.0123456789eE";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i)
        if (text[i] == '\\') ++i;
    } else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) {
      const std::size_t end = std::min(text.find_first_not_of(kNumber, i), text.size());
      const std::string_view number = text.substr(i, end - i);
      HADAL_CHECK(number.size() < 19 || number.find_first_of(".eE") != number.npos || fits_64_bits(number),
                  "{}: the integer {} has more than 64 bits; write it as a string", where, number);
      i = end - 1;
    }
  }
}

}  // namespace hadal::io
