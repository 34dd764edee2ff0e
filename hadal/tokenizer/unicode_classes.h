// Character classes of code points as PCRE2 knows them, in pages that are made when they are first needed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace hadal::tokenizer {

enum CharClass : std::uint8_t {
  kLetter,       // \p{L}
  kMark,         // \p{M}
  kNumber,       // \p{N}
  kPunctuation,  // \p{P} or \p{S}
  kSpace,        // White_Space, line breaks \r and \n apart
  kLineBreak,    // \r and \n
  kOther,        // controls, formats, unassigned
};

class UnicodeClasses {
 public:
  UnicodeClasses() = default;
  ~UnicodeClasses();
  UnicodeClasses(const UnicodeClasses&) = delete;
  UnicodeClasses& operator=(const UnicodeClasses&) = delete;

  // Thread-safe; two threads may make the same page, one of them wins.
  CharClass of(std::uint32_t code_point) const {
    const Page* page = pages_[code_point >> 8].load(std::memory_order_acquire);
    if (!page) page = make_page(code_point >> 8);
    return (*page)[code_point & 0xFF];
  }

 private:
  using Page = std::array<CharClass, 256>;
  const Page* make_page(std::uint32_t index) const;

  mutable std::array<std::atomic<const Page*>, 0x1100> pages_{};
};

}  // namespace hadal::tokenizer
