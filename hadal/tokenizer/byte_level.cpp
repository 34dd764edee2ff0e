#include "hadal/tokenizer/byte_level.h"

#include <array>

#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer {
namespace {

struct Alphabet {
  std::array<std::uint32_t, 256> character{};
  std::array<int, 512> byte{};

  constexpr Alphabet() {
    for (int& b : byte) b = -1;
    std::uint32_t next = 256;
    for (std::uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      character[b] = printable ? b : next++;
      byte[character[b]] = static_cast<int>(b);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  while (!spelling.empty()) {
    const CodePoint c = decode_utf8(spelling);
    if (c.length == 0 || c.value >= kAlphabet.byte.size() || kAlphabet.byte[c.value] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[c.value]);
    spelling.remove_prefix(c.length);
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  for (char b : bytes) append_utf8(spelling, kAlphabet.character[static_cast<unsigned char>(b)]);
  return spelling;
}

}  // namespace hadal::tokenizer
