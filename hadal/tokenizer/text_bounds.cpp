#include "hadal/tokenizer/text_bounds.h"

#include <algorithm>

#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer {
namespace {

// Python's str.isspace: White_Space and the four information separators.
bool is_python_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

}  // namespace

void for_each_bounded_part(std::string_view text, std::size_t longest_text, std::size_t longest_run,
                           const std::function<void(std::string_view)>& part) {
  std::size_t begin = 0, characters = 0, run = 0;
  bool run_is_space = false;
  const auto cut = [&](std::size_t at) {
    if (at > begin) part(text.substr(begin, at - begin));
    begin = at;
  };
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text.substr(i, 4));
    const bool space = is_python_space(c.value) && c.length > 0;
    if (characters == longest_text) {
      cut(i);
      characters = run = 0;
    }
    if (run == 0 || space != run_is_space) {
      run = 1;
      run_is_space = space;
    } else if (++run > longest_run) {
      cut(i);
      run = 1;
    }
    ++characters;
    i += std::max<std::size_t>(c.length, 1);
  }
  cut(text.size());
}

}  // namespace hadal::tokenizer
