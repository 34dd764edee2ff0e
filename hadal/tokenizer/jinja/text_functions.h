// Functions on text that keep the origin of every character; methods and filters share them.
#pragma once

#include <string_view>

#include "hadal/tokenizer/jinja/value.h"

namespace hadal::tokenizer::jinja {

enum class Side { kBoth, kLeft, kRight };

// `characters` empty: white space.
Text strip(const Text& text, std::string_view characters, Side side);
// `count` < 0: all occurrences. An inserted piece keeps the origin of `with`.
Text replace(const Text& text, std::string_view what, const Text& with, std::int64_t count);
// `separator` empty: runs of white space. `limit` < 0: no limit.
List split(const Text& text, std::string_view separator, std::int64_t limit);
List split_from_right(const Text& text, std::string_view separator, std::int64_t limit);
List split_at_end(const Text& text, std::int64_t limit);  // from the right, at runs of white space
bool is_cased(std::uint32_t character);
List split_lines(const Text& text, bool keep_ends);
Text join(const Text& separator, const List& items);
Text upper(const Text& text);
Text lower(const Text& text);
Text title(const Text& text);
Text capitalize(const Text& text);
Text title_words(const Text& text);  // Jinja's filter: words begin behind white space, - ( { [ and <
Text repeat(const Text& text, std::int64_t times);
// Every line but the first (and blank ones) behind `width` spaces.
Text indent(const Text& text, const Text& margin, bool first, bool blank);
// HTML's five characters as entities.
Text escape_html(const Text& text);

}  // namespace hadal::tokenizer::jinja
