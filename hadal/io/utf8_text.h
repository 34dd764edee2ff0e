// What files hold that people wrote: text in UTF-8, with what Windows' programs do to it.
#pragma once

#include <string_view>

namespace hadal::io {

// The text inside the bytes of a file: without UTF-8's byte order mark, which Windows' programs write. UTF-16 is
// refused with a sentence that opens with `where`.
std::string_view utf8_text(std::string_view bytes, std::string_view where);

// Throws where the text has an integer of more than 64 bits, which would lose digits; `where` opens the sentence.
void check_integers(std::string_view text, std::string_view where);

}  // namespace hadal::io
