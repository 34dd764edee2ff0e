#include "hadal/tokenizer/deepseek_scanner.h"

#include "hadal/tokenizer/pre_tokenizer.h"

namespace hadal::tokenizer {
namespace {

constexpr const char* kNumbers = R"(\p{N}{1,3})";
constexpr const char* kCjkRun = "[一-龥\u3040-ゟ゠-ヿ]+";
constexpr const char* kWords =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

bool is_ascii_letter(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool is_cjk(std::uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
}

}  // namespace

DeepseekScanner::DeepseekScanner() {
  for (std::uint32_t c = 0; c < 128; ++c) ascii_[c] = classes_.of(c);
}

bool DeepseekScanner::handles(const std::vector<SplitStep>& steps) {
  if (steps.size() != 3) return false;
  for (const SplitStep& s : steps)
    if (s.behavior != SplitBehavior::kIsolated || s.invert) return false;
  return steps[0].pattern == kNumbers && steps[1].pattern == kCjkRun && steps[2].pattern == kWords;
}

DeepseekScanner::Char DeepseekScanner::wide(std::string_view text, std::size_t i) const {
  const CodePoint c = decode_utf8(text.substr(i, 4));
  if (c.length == 0) return {kBorder, 1, false};
  return {static_cast<std::uint8_t>(classes_.of(c.value)), static_cast<std::uint8_t>(c.length), is_cjk(c.value)};
}

std::size_t DeepseekScanner::next(const Segment& s, std::size_t begin) const {
  const Char c = at(s, begin);
  const std::size_t second = begin + c.length;
  switch (c.kind) {
    case kLetter:
    case kMark:
      return letters_and_marks(s, second);
    case kNumber:
      return number(s, begin);
    case kPunctuation: {
      // Only ASCII has punctuation and symbols that the first alternative takes in front of a word.
      if (c.length > 1 || second >= s.text.size() || !is_ascii_letter(s.text[second])) return punctuation(s, second);
      std::size_t end = second + 1;
      while (end < s.text.size() && is_ascii_letter(s.text[end])) ++end;
      return end;
    }
    case kSpace: {
      const Char after = at(s, second);
      if (after.kind == kLetter || after.kind == kMark) return letters_and_marks(s, second + after.length);
      if (s.text[begin] == ' ' && after.kind == kPunctuation) return punctuation(s, second + after.length);
      return spaces(s, begin);
    }
    case kLineBreak:
      return spaces(s, begin);
    case kOther: {
      const Char after = at(s, second);
      if (after.kind == kLetter || after.kind == kMark) return letters_and_marks(s, second + after.length);
      return others(s, begin);
    }
    default:
      return second;
  }
}

std::size_t DeepseekScanner::number(const Segment& s, std::size_t i) const {
  for (int count = 0; count < 3; ++count) {
    const Char c = at(s, i);
    if (c.kind != kNumber) break;
    i += c.length;
  }
  return i;
}

std::size_t DeepseekScanner::run_of(std::uint8_t kind, const Segment& s, std::size_t i) const {
  for (Char c = at(s, i); c.kind == kind; c = at(s, i)) i += c.length;
  return i;
}

std::size_t DeepseekScanner::letters_and_marks(const Segment& s, std::size_t i) const {
  for (Char c = at(s, i); c.kind == kLetter || c.kind == kMark; c = at(s, i)) i += c.length;
  return i;
}

std::size_t DeepseekScanner::punctuation(const Segment& s, std::size_t i) const {
  return run_of(kLineBreak, s, run_of(kPunctuation, s, i));
}

// Up to the last line break of the run if it has one; else the whole run, less its last character if something follows
// that could take it along.
std::size_t DeepseekScanner::spaces(const Segment& s, std::size_t begin) const {
  std::size_t i = begin, after_break = begin, last = begin;
  Char c = at(s, i);
  for (; c.kind == kSpace || c.kind == kLineBreak; c = at(s, i)) {
    last = i;
    i += c.length;
    if (c.kind == kLineBreak) after_break = i;
  }
  if (after_break > begin) return after_break;
  const bool at_border = c.kind == kBorder || c.kind == kNumber;
  return at_border || last == begin ? i : last;
}

// Characters that no alternative matches: together up to the next one that starts a match.
std::size_t DeepseekScanner::others(const Segment& s, std::size_t begin) const {
  std::size_t i = begin;
  for (Char c = at(s, i); c.kind == kOther; c = at(s, i)) {
    const Char after = at(s, i + c.length);
    if (i > begin && (after.kind == kLetter || after.kind == kMark)) return i;
    i += c.length;
  }
  return i;
}

}  // namespace hadal::tokenizer
