#include "hadal/chat/stop_strings.h"

#include <algorithm>
#include <utility>

namespace hadal::chat {
namespace {

// The longest end of `text` with which `stop` begins.
std::size_t partial_match(std::string_view text, std::string_view stop) {
  for (std::size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  std::erase(strings_, "");
}

std::string StopStrings::push(std::string_view text) {
  if (stopped()) return "";
  held_ += text;
  std::size_t first = std::string::npos, keep = 0;
  for (const std::string& stop : strings_) {
    if (const std::size_t at = held_.find(stop); at < first) first = at, found_ = stop;
    keep = std::max(keep, partial_match(held_, stop));
  }
  const std::size_t shown = stopped() ? first : held_.size() - keep;
  std::string out = held_.substr(0, shown);
  held_ = stopped() ? "" : held_.substr(shown);
  return out;
}

std::string StopStrings::finish() {
  return std::exchange(held_, {});
}

}  // namespace hadal::chat
