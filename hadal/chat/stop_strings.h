// Ends an answer at one of several strings and never lets a part of one through: text that may be the beginning of a
// stop string is held back until it is known not to be (rule 45).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hadal::chat {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings);

  // Returns what can be shown. After a stop string was seen, stopped() is true and nothing more comes out. Without
  // `may_stop` none ends in this text; one that begins in it may end in later text.
  std::string push(std::string_view text, bool may_stop = true);
  // What was held back, at the end of the answer.
  std::string finish();
  bool stopped() const { return !found_.empty(); }
  const std::string& found() const { return found_; }  // empty: none yet

 private:
  std::vector<std::string> strings_;
  std::string held_;
  std::size_t passed_ = 0;  // of held_: in which none may end
  std::string found_;
};

}  // namespace hadal::chat
