// The cuts that the published tiktoken classes make before encoding, because their engine chokes on long runs. They can
// change tokens at a seam, so agreement needs them.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace hadal::tokenizer {

// The text in parts of at most `longest_text` characters, each cut again where a run of spaces (or of anything else)
// exceeds `longest_run` characters.
void for_each_bounded_part(std::string_view text, std::size_t longest_text, std::size_t longest_run,
                           const std::function<void(std::string_view)>& part);

}  // namespace hadal::tokenizer
