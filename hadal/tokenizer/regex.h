// PCRE2 with JIT, for patterns written for the engines of the `tokenizers` and `tiktoken` packages. Subjects may hold
// invalid UTF-8: such bytes never match.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace hadal::tokenizer {

class Regex {
 public:
  // `where` opens error sentences. The pattern's dialect is translated first, see translate_pattern.
  Regex(const std::string& pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  struct Match {
    std::size_t begin, end;
  };
  // The leftmost match at or behind `from`; false if there is none. Thread-safe.
  bool find(std::string_view text, std::size_t from, Match& match) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
  std::string where_;
};

// The same language in PCRE2's dialect: \s and \S are Unicode White_Space (PCRE2 counts U+180E in), a bare script name
// \p{Han} is \p{sc:Han} (PCRE2 would take script extensions), and the intersection [A&&[^\p{Han}]] becomes
// (?!\p{sc:Han})[A].
std::string translate_pattern(std::string_view pattern);

}  // namespace hadal::tokenizer
