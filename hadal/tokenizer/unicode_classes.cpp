#include "hadal/tokenizer/unicode_classes.h"

#include <string>

#include "hadal/tokenizer/regex.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer {
namespace {

CharClass classify(std::uint32_t code_point) {
  static const Regex letter(R"(\p{L})", "classes"), mark(R"(\p{M})", "classes"), number(R"(\p{N})", "classes"),
      punctuation(R"([\p{P}\p{S}])", "classes"), space(R"(\s)", "classes");
  if (code_point == '\r' || code_point == '\n') return kLineBreak;
  if (code_point >= 0xD800 && code_point < 0xE000) return kOther;
  std::string text;
  append_utf8(text, code_point);
  Regex::Match m{};
  if (letter.find(text, 0, m)) return kLetter;
  if (mark.find(text, 0, m)) return kMark;
  if (number.find(text, 0, m)) return kNumber;
  if (punctuation.find(text, 0, m)) return kPunctuation;
  if (space.find(text, 0, m)) return kSpace;
  return kOther;
}

}  // namespace

UnicodeClasses::~UnicodeClasses() {
  for (auto& page : pages_) delete page.load();
}

const UnicodeClasses::Page* UnicodeClasses::make_page(std::uint32_t index) const {
  auto* page = new Page;
  for (std::uint32_t i = 0; i < 256; ++i) (*page)[i] = classify(index << 8 | i);
  const Page* expected = nullptr;
  if (pages_[index].compare_exchange_strong(expected, page)) return page;
  delete page;
  return expected;
}

}  // namespace hadal::tokenizer
