// The pre-tokenizer of DeepSeek-V3 in one pass. tokenizer.json states it as three isolating splits:
//   1. \p{N}{1,3}
//   2. [一-龥぀-ゟ゠-ヿ]+
//   3. [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+ | [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+ | ?[\p{P}\p{S}]+[\r\n]*
//      | \s*[\r\n]+ | \s+(?!\S) | \s+
// The first two bound what the third may see: digits are pieces as they stand, a run of CJK characters and the text
// between such runs are segments that the third cuts on its own. Equal to the PCRE2 path piece by piece for all valid
// UTF-8 (tested); bytes that are no valid character are borders and pieces of their own.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "hadal/tokenizer/unicode_classes.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer {

struct SplitStep;

class DeepseekScanner {
 public:
  DeepseekScanner();
  // Whether these steps are the sequence above, character by character.
  static bool handles(const std::vector<SplitStep>& steps);

  template <class F>
  void split(std::string_view text, const F& piece) const {
    for (std::size_t begin = 0; begin < text.size();) {
      if (is_cjk_at(text, begin)) {
        begin = cjk_run(text, begin, piece);
        continue;
      }
      const std::size_t end = next({text, false}, begin);
      piece(text.substr(begin, end - begin));
      begin = end;
    }
  }

 private:
  // Beyond the classes of Unicode: the end of a segment.
  static constexpr std::uint8_t kBorder = 7;
  struct Char {
    std::uint8_t kind;
    std::uint8_t length;
    bool cjk;
  };
  // Text of which only characters of one sort, CJK or not, belong to the segment being cut.
  struct Segment {
    std::string_view text;
    bool cjk;
  };

  Char at(const Segment& s, std::size_t i) const {
    if (i >= s.text.size()) return {kBorder, 0, false};
    const auto byte = static_cast<unsigned char>(s.text[i]);
    if (byte < 0x80) return {s.cjk ? kBorder : ascii_[byte], 1, false};
    Char c = wide(s.text, i);
    if (c.cjk != s.cjk) c.kind = kBorder;
    return c;
  }
  Char wide(std::string_view text, std::size_t i) const;
  bool is_cjk_at(std::string_view text, std::size_t i) const {
    return static_cast<unsigned char>(text[i]) >= 0x80 && wide(text, i).cjk;
  }

  template <class F>
  std::size_t cjk_run(std::string_view text, std::size_t begin, const F& piece) const {
    while (begin < text.size() && is_cjk_at(text, begin)) {
      const std::size_t end = next({text, true}, begin);
      piece(text.substr(begin, end - begin));
      begin = end;
    }
    return begin;
  }

  std::size_t next(const Segment& s, std::size_t begin) const;
  std::size_t number(const Segment& s, std::size_t begin) const;
  std::size_t run_of(std::uint8_t kind, const Segment& s, std::size_t i) const;
  std::size_t letters_and_marks(const Segment& s, std::size_t i) const;
  std::size_t punctuation(const Segment& s, std::size_t i) const;
  std::size_t spaces(const Segment& s, std::size_t begin) const;
  std::size_t others(const Segment& s, std::size_t begin) const;

  std::array<std::uint8_t, 128> ascii_{};
  UnicodeClasses classes_;
};

}  // namespace hadal::tokenizer
