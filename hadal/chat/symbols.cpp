#include "hadal/chat/symbols.h"

#include <algorithm>

#include "hadal/core/error.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::chat {
namespace {

constexpr char32_t kFirstToken = 0x110000;  // behind the last character

}  // namespace

Alphabet::Alphabet(const tokenizer::AddedTokens& tokens) : tokens_(tokens.all()) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    by_content_.emplace(tokens_[i].content, i);
    by_id_.emplace(tokens_[i].id, i);
  }
}

char32_t Alphabet::symbol(tokenizer::TokenId id) const {
  const auto it = by_id_.find(id);
  HADAL_CHECK(it != by_id_.end(), "token {} is no added token", id);
  return kFirstToken + static_cast<char32_t>(it->second);
}

Symbols Alphabet::text(std::string_view utf8) {
  Symbols out;
  while (!utf8.empty()) {
    const tokenizer::CodePoint c = tokenizer::decode_utf8(utf8);
    out += c.length ? static_cast<char32_t>(c.value) : U'\uFFFD';
    utf8.remove_prefix(std::max<std::size_t>(c.length, 1));
  }
  return out;
}

template <class Text, class Token>
void Alphabet::split(std::string_view spelling, const Text& text, const Token& token) const {
  std::size_t begin = 0, i = 0;
  while (i < spelling.size()) {
    const std::map<std::string, std::size_t, std::less<>>::value_type* longest = nullptr;
    for (const auto& entry : by_content_)
      if (spelling.substr(i).starts_with(entry.first) && (!longest || entry.first.size() > longest->first.size()))
        longest = &entry;
    if (!longest) {
      ++i;
      continue;
    }
    if (i > begin) text(spelling.substr(begin, i - begin));
    token(longest->second);
    begin = i += longest->first.size();
  }
  if (begin < spelling.size()) text(spelling.substr(begin));
}

Symbols Alphabet::marker(std::string_view spelling) const {
  Symbols out;
  split(
      spelling, [&](std::string_view part) { out += text(part); },
      [&](std::size_t i) { out += kFirstToken + static_cast<char32_t>(i); });
  return out;
}

grammar::Pieces Alphabet::pieces(std::string_view spelling) const {
  grammar::Pieces out;
  split(
      spelling, [&](std::string_view part) { out.push_back({std::string(part)}); },
      [&](std::size_t i) { out.push_back({"", tokens_[i].id}); });
  return out;
}

bool Alphabet::has_symbol(SymbolView symbols) {
  return std::any_of(symbols.begin(), symbols.end(), [](char32_t c) { return c >= kFirstToken; });
}

std::string Alphabet::shown(SymbolView symbols) const {
  std::string out;
  for (const char32_t c : symbols) {
    if (c < kFirstToken)
      tokenizer::append_utf8(out, static_cast<std::uint32_t>(c));
    else if (const tokenizer::AddedToken& token = tokens_[c - kFirstToken]; !token.special)
      out += token.content;
  }
  return out;
}

}  // namespace hadal::chat
