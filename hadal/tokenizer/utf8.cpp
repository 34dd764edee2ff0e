#include "hadal/tokenizer/utf8.h"

#include <algorithm>

namespace hadal::tokenizer {
namespace {

std::uint32_t byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

std::size_t length_from_lead(std::uint32_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  if (lead >= 0xF0 && lead < 0xF5) return 4;
  return 0;
}

bool second_byte_fits(std::uint32_t lead, std::uint32_t second) {
  if (lead == 0xE0) return second >= 0xA0 && second < 0xC0;
  if (lead == 0xED) return second >= 0x80 && second < 0xA0;
  if (lead == 0xF0) return second >= 0x90 && second < 0xC0;
  if (lead == 0xF4) return second >= 0x80 && second < 0x90;
  return second >= 0x80 && second < 0xC0;
}

}  // namespace

CodePoint decode_utf8(std::string_view text) {
  if (text.empty()) return {};
  const std::uint32_t lead = byte_at(text, 0);
  const std::size_t length = length_from_lead(lead);
  if (length == 1) return {lead, 1};
  if (length == 0 || text.size() < length || !second_byte_fits(lead, byte_at(text, 1))) return {};
  std::uint32_t value = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(text, i) & 0xC0) != 0x80) return {};
    value = value << 6 | (byte_at(text, i) & 0x3F);
  }
  return {value, length};
}

void append_utf8(std::string& out, std::uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::size_t incomplete_utf8_tail(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const std::uint32_t lead = byte_at(text, text.size() - back);
    if ((lead & 0xC0) == 0x80) continue;
    if (length_from_lead(lead) <= back) return 0;
    return back == 1 || second_byte_fits(lead, byte_at(text, text.size() - back + 1)) ? back : 0;
  }
  return 0;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = decode_utf8(text).length;
    if (length == 0)
      out += "\xEF\xBF\xBD";
    else
      out += text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

}  // namespace hadal::tokenizer
