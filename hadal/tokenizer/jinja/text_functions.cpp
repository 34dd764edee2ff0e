#include "hadal/tokenizer/jinja/text_functions.h"

#include <locale.h>
#include <wctype.h>

#include <algorithm>
#include <map>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/special_case.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer::jinja {
namespace {

constexpr std::size_t kLongest = std::size_t{64} << 20;

bool is_unicode_space(std::uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::uint32_t character(std::string_view text, std::size_t i) {
  return decode_utf8(text.substr(i, 4)).value;
}

bool is_stripped(std::string_view text, std::size_t begin, std::size_t end, std::string_view characters) {
  if (characters.empty()) return is_unicode_space(character(text, begin));
  const std::string_view c = text.substr(begin, end - begin);
  for (std::size_t i = 0; i < characters.size();) {
    const std::size_t length = std::max<std::size_t>(1, decode_utf8(characters.substr(i, 4)).length);
    if (characters.substr(i, length) == c) return true;
    i += length;
  }
  return false;
}

locale_t unicode() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}
std::uint32_t to_upper(std::uint32_t c) {
  return unicode() ? towupper_l(c, unicode()) : towupper(c);
}
std::uint32_t to_lower(std::uint32_t c) {
  return unicode() ? towlower_l(c, unicode()) : towlower(c);
}

struct SpecialCase {
  std::string upper, title;
};
const std::map<std::uint32_t, SpecialCase>& special_cases() {
  static const auto table = [] {
    std::map<std::uint32_t, SpecialCase> out;
    std::string_view rest = kSpecialCase;
    while (!rest.empty()) {
      const std::string_view entry = rest.substr(0, rest.find(' '));
      rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
      const std::size_t first = entry.find('|'), second = entry.find('|', first + 1);
      out[character(entry, 0)] = {std::string(entry.substr(first + 1, second - first - 1)),
                                  std::string(entry.substr(second + 1))};
    }
    return out;
  }();
  return table;
}

constexpr std::uint32_t kCapitalSigma = 0x3A3, kFinalSigma = 0x3C2, kDottedI = 0x130;

enum class Case { kUpper, kLower, kTitle };

// `previous` and `next` are the neighbours, 0 where there is none.
void append_cased(std::string& out, std::uint32_t c, Case form, std::uint32_t previous, std::uint32_t next) {
  if (c < 0x80) {
    const bool changes = form == Case::kLower ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z';
    out += static_cast<char>(changes ? c ^ 0x20 : c);
    return;
  }
  if (form == Case::kLower) {
    if (c == kDottedI)
      out += "i\u0307";
    else
      append_utf8(out, c == kCapitalSigma && is_cased(previous) && !is_cased(next) ? kFinalSigma : to_lower(c));
    return;
  }
  const auto it = special_cases().find(c);
  if (it == special_cases().end())
    append_utf8(out, to_upper(c));
  else
    out += form == Case::kUpper ? it->second.upper : it->second.title;
}

// Each character in the form that `form(character, previous)` says.
template <class F>
Text map_case(const Text& text, F form) {
  Text out;
  std::size_t at = 0;
  std::uint32_t previous = 0;
  for (const Prompt::Run& run : text.runs) {
    std::string mapped;
    while (at < run.end) {
      const CodePoint c = decode_utf8(std::string_view(text.text).substr(at, 4));
      const std::size_t length = std::max<std::size_t>(1, c.length);
      if (c.length == 0)
        mapped += text.text[at];
      else
        append_cased(mapped, c.value, form(c.value, previous), previous,
                     at + length < text.text.size() ? character(text.text, at + length) : 0);
      previous = c.value;
      at += length;
    }
    out.append(mapped, run.origin);
  }
  return out;
}

void check_size(std::size_t bytes) {
  HADAL_CHECK(bytes <= kLongest, "a string of {} bytes is too long", bytes);
}

}  // namespace

Text strip(const Text& text, std::string_view characters, Side side) {
  const auto starts = character_starts(text.text);
  std::size_t begin = 0, end = starts.size() - 1;
  if (side != Side::kRight)
    while (begin < end && is_stripped(text.text, starts[begin], starts[begin + 1], characters)) ++begin;
  if (side != Side::kLeft)
    while (end > begin && is_stripped(text.text, starts[end - 1], starts[end], characters)) --end;
  return slice_text(text, starts[begin], starts[end]);
}

Text replace(const Text& text, std::string_view what, const Text& with, std::int64_t count) {
  Text out;
  std::size_t at = 0;
  if (what.empty()) {
    const auto starts = character_starts(text.text);
    for (std::size_t i = 0; i < starts.size(); ++i) {
      if (count < 0 || static_cast<std::int64_t>(i) < count) append_text(out, with);
      if (i + 1 < starts.size()) append_text(out, slice_text(text, starts[i], starts[i + 1]));
      check_size(out.text.size());
    }
    return out;
  }
  while (count != 0) {
    const std::size_t found = text.text.find(what, at);
    if (found == std::string::npos) break;
    append_text(out, slice_text(text, at, found));
    append_text(out, with);
    check_size(out.text.size());
    at = found + what.size();
    --count;
  }
  append_text(out, slice_text(text, at, text.text.size()));
  return out;
}

List split(const Text& text, std::string_view separator, std::int64_t limit) {
  List out;
  if (!separator.empty()) {
    std::size_t at = 0;
    for (std::size_t found; limit != 0 && (found = text.text.find(separator, at)) != std::string::npos; --limit) {
      out.push_back(slice_text(text, at, found));
      at = found + separator.size();
    }
    out.push_back(slice_text(text, at, text.text.size()));
    return out;
  }
  const auto starts = character_starts(text.text);
  std::size_t i = 0;
  const std::size_t n = starts.size() - 1;
  for (;;) {
    while (i < n && is_unicode_space(character(text.text, starts[i]))) ++i;
    if (i == n) return out;
    if (limit == 0) {
      out.push_back(slice_text(text, starts[i], text.text.size()));
      return out;
    }
    const std::size_t begin = i;
    while (i < n && !is_unicode_space(character(text.text, starts[i]))) ++i;
    out.push_back(slice_text(text, starts[begin], starts[i]));
    --limit;
  }
}

List split_from_right(const Text& text, std::string_view separator, std::int64_t limit) {
  HADAL_CHECK(!separator.empty(), "rsplit without a separator is not supported");
  List out;
  std::size_t end = text.text.size();
  for (std::size_t found; limit != 0 && end >= separator.size() &&
                          (found = text.text.rfind(separator, end - separator.size())) != std::string::npos;
       --limit) {
    out.push_back(slice_text(text, found + separator.size(), end));
    end = found;
  }
  out.push_back(slice_text(text, 0, end));
  std::reverse(out.begin(), out.end());
  return out;
}

List split_at_end(const Text& text, std::int64_t limit) {
  const auto starts = character_starts(text.text);
  List out;
  std::size_t end = starts.size() - 1;
  const auto space_before = [&](std::size_t i) { return is_unicode_space(character(text.text, starts[i - 1])); };
  for (;;) {
    while (end > 0 && space_before(end)) --end;
    if (end == 0) break;
    std::size_t begin = limit == 0 ? 0 : end;
    while (begin > 0 && !space_before(begin)) --begin;
    out.push_back(slice_text(text, starts[begin], starts[end]));
    end = begin;
    --limit;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

List split_lines(const Text& text, bool keep_ends) {
  const auto ends_line = [](std::uint32_t c) {
    return (c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
  };
  List out;
  const auto starts = character_starts(text.text);
  std::size_t begin = 0;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    if (!ends_line(character(text.text, starts[i]))) continue;
    const std::size_t end = starts[i];
    if (text.text.compare(end, 2, "\r\n") == 0) ++i;
    out.push_back(slice_text(text, begin, keep_ends ? starts[i + 1] : end));
    begin = starts[i + 1];
  }
  if (begin < text.text.size()) out.push_back(slice_text(text, begin, text.text.size()));
  return out;
}

Text join(const Text& separator, const List& items) {
  Text out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i) append_text(out, separator);
    append_text(out, to_text(items[i]));
    check_size(out.text.size());
  }
  return out;
}

bool is_cased(std::uint32_t c) {
  if (c < 0x80) return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  return to_upper(c) != c || to_lower(c) != c || special_cases().contains(c);
}

Text upper(const Text& text) {
  return map_case(text, [](std::uint32_t, std::uint32_t) { return Case::kUpper; });
}
Text lower(const Text& text) {
  return map_case(text, [](std::uint32_t, std::uint32_t) { return Case::kLower; });
}
Text title(const Text& text) {
  return map_case(text,
                  [](std::uint32_t, std::uint32_t before) { return is_cased(before) ? Case::kLower : Case::kTitle; });
}
Text title_words(const Text& text) {
  return map_case(text, [first = true](std::uint32_t c, std::uint32_t) mutable {
    const bool separates = is_unicode_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    const bool begins = std::exchange(first, separates);
    return begins && !separates ? Case::kUpper : Case::kLower;
  });
}
Text capitalize(const Text& text) {
  return map_case(text, [first = true](std::uint32_t, std::uint32_t) mutable {
    return std::exchange(first, false) ? Case::kTitle : Case::kLower;
  });
}

Text repeat(const Text& text, std::int64_t times) {
  Text out;
  if (times > 0)
    check_size(text.text.empty() ? 0
                                 : static_cast<std::size_t>(std::min<std::int64_t>(times, 1 << 30)) * text.text.size());
  if (text.text.empty()) return out;
  if (times <= 0) return out;
  // By doubling: a character repeated a million times is no million appends.
  out = text;
  const std::size_t whole = static_cast<std::size_t>(times) * text.text.size();
  while (out.text.size() * 2 <= whole) append_text(out, Text(out));
  append_text(out, slice_text(out, 0, whole - out.text.size()));
  return out;
}

Text indent(const Text& text, const Text& margin, bool first, bool blank) {
  // A line break at the end is the start of one more, empty line.
  Text closed = text;
  closed.append("\n", text.runs.empty() ? Origin::kTemplate : text.runs.back().origin);
  Text out;
  const List lines = split_lines(closed, false);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Text& line = *lines[i].text();
    if (i > 0) out.append("\n", Origin::kUser);
    if (i == 0 ? first : (blank || !line.text.empty())) append_text(out, margin);
    append_text(out, line);
    check_size(out.text.size());
  }
  return out;
}

Text escape_html(const Text& text) {
  Text out = text;
  for (const auto& [what, with] :
       {std::pair{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}})
    out = replace(out, what, make_text(with, Origin::kUser), -1);
  return out;
}

}  // namespace hadal::tokenizer::jinja
