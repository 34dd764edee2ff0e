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

std::string StopStrings::push(std::string_view text, bool may_stop) {
  if (stopped()) return "";
  held_ += text;
  if (!may_stop) passed_ = held_.size();
  std::size_t first = std::string::npos, keep = 0;
  for (const std::string& stop : strings_) {
    const std::size_t from = passed_ >= stop.size() ? passed_ - stop.size() + 1 : 0;
    if (const std::size_t at = held_.find(stop, from); at < first) first = at, found_ = stop;
    keep = std::max(keep, partial_match(held_, stop));
  }
  const std::size_t shown = stopped() ? first : held_.size() - keep;
  std::string out = held_.substr(0, shown);
  held_ = stopped() ? "" : held_.substr(shown);
  passed_ -= std::min(passed_, shown);
  return out;
}

std::string StopStrings::finish() {
  passed_ = 0;
  return std::exchange(held_, {});
}

}  // namespace hadal::chat
