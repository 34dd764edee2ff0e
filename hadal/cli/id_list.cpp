#include "hadal/cli/id_list.h"

#include <charconv>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"

namespace hadal::cli {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

config::TokenId parse_id(std::string_view word, const std::string& where) {
  config::TokenId id = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
  HADAL_CHECK(!word.empty(), "{}: a token id is missing between commas or at an end", where);
  HADAL_CHECK(error == std::errc() && end == word.data() + word.size() && id >= 0, "{}: \"{}\" is not a token id",
              where, word.substr(0, 40));
  return id;
}

}  // namespace

std::vector<config::TokenId> parse_ids(std::string_view text, const std::string& where) {
  text = trimmed(io::utf8_text(text, where));
  const bool opened = text.starts_with('['), closed = text.ends_with(']');
  HADAL_CHECK(opened == closed && text != "[" && text != "]", "{}: a bracket of the list is missing", where);
  if (opened) text = trimmed(text.substr(1, text.size() - 2));
  HADAL_CHECK(!text.empty(), "{}: has no token ids", where);
  std::vector<config::TokenId> ids;
  const bool commas = text.find(',') != text.npos;
  for (bool more = true; more;) {
    const std::size_t end = commas ? text.find(',') : text.find_first_of(kSpace);
    ids.push_back(parse_id(trimmed(text.substr(0, end)), where));
    more = end != text.npos;
    if (more) text = commas ? text.substr(end + 1) : trimmed(text.substr(end));
  }
  return ids;
}

}  // namespace hadal::cli
