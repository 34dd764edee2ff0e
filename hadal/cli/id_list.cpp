#include "hadal/cli/id_list.h"

#include <charconv>

#include "hadal/core/error.h"

namespace hadal::cli {

std::vector<config::TokenId> parse_ids(std::string_view text, const std::string& where) {
  std::vector<config::TokenId> ids;
  constexpr std::string_view kSeparators = " \t\r\n,[]";
  for (;;) {
    const std::size_t begin = text.find_first_not_of(kSeparators);
    if (begin == text.npos) break;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(kSeparators));
    config::TokenId id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    HADAL_CHECK(error == std::errc() && end == word.data() + word.size() && id >= 0, "{}: \"{}\" is not a token id",
                where, word.substr(0, 40));
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
  HADAL_CHECK(!ids.empty(), "{}: has no token ids", where);
  return ids;
}

}  // namespace hadal::cli
