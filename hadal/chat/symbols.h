// An answer as a string of symbols: its characters, and one symbol for each added token. So a marker that the tokenizer
// has as a token is never confused with the same spelling in ordinary text.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/grammar/lark.h"
#include "hadal/tokenizer/added_tokens.h"

namespace hadal::chat {

using Symbols = std::u32string;
using SymbolView = std::u32string_view;

class Alphabet {
 public:
  explicit Alphabet(const tokenizer::AddedTokens& tokens);

  bool has_token(std::string_view content) const { return by_content_.contains(content); }
  bool is_token(tokenizer::TokenId id) const { return by_id_.contains(id); }
  char32_t symbol(tokenizer::TokenId id) const;  // of an added token

  // Whole characters; spellings of tokens stay text.
  static Symbols text(std::string_view utf8);
  // Markup: spellings of tokens are those tokens.
  Symbols marker(std::string_view spelling) const;
  // The same for grammars.
  grammar::Pieces pieces(std::string_view spelling) const;
  // Whether it has a token, so that no text can look like it.
  static bool has_symbol(SymbolView symbols);
  // UTF-8; tokens by their spelling, special ones not at all.
  std::string shown(SymbolView symbols) const;

 private:
  // Calls piece(text) or token(index), in order.
  template <class Text, class Token>
  void split(std::string_view spelling, const Text& text, const Token& token) const;

  std::vector<tokenizer::AddedToken> tokens_;
  std::map<std::string, std::size_t, std::less<>> by_content_;
  std::map<tokenizer::TokenId, std::size_t> by_id_;
};

}  // namespace hadal::chat
