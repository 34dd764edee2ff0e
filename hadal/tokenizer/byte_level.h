// The byte-level alphabet of GPT-2: each byte as one printable character, as tokenizer.json spells tokens.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hadal::tokenizer {

// The bytes that a token's spelling stands for; nothing if a character is not in the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);
std::string spelling_of_bytes(std::string_view bytes);

}  // namespace hadal::tokenizer
