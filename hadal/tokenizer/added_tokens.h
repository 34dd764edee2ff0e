// Tokens that stand outside BPE and are found in the text by their spelling: control tokens, but also <think> or
// <｜User｜>. Matching is that of the `tokenizers` package: leftmost, then longest; tokens that are not "normalized"
// first, the others in what remains.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/tokenizer/prompt.h"
#include "hadal/tokenizer/vocabulary.h"

namespace hadal::tokenizer {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // not inside a word
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
  bool normalized = true;
  bool special = false;  // skipped on decoding
};

class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens = {});

  struct Segment {
    std::size_t begin, end;
    TokenId id;  // -1: ordinary text
  };
  // The text as segments, in order; empty ones are left out. Only spellings that lie within one template run count.
  std::vector<Segment> split(std::string_view text, const std::vector<Prompt::Run>& runs) const;

  const AddedToken* find(std::string_view content) const;
  const AddedToken* find(TokenId id) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  // A trie over bytes; node 0 is the root.
  class Trie {
   public:
    Trie() : nodes_(1) {}
    void insert(std::string_view text, std::size_t token);
    bool empty() const { return nodes_.size() == 1; }
    bool starts_with(unsigned char byte) const { return first_[byte]; }
    // The longest token at the start of `text`; its index or -1.
    std::ptrdiff_t longest(std::string_view text) const;

   private:
    struct Node {
      std::map<unsigned char, std::size_t> next;
      std::ptrdiff_t token = -1;
    };
    std::vector<Node> nodes_;
    std::array<bool, 256> first_{};
  };
  void split_segment(std::string_view text, Segment part, const std::vector<Prompt::Run>& runs, const Trie& trie,
                     std::vector<Segment>& out) const;

  std::vector<AddedToken> tokens_;
  std::map<std::string, std::size_t, std::less<>> by_content_;
  std::map<TokenId, std::size_t> by_id_;
  Trie raw_, normalized_;
};

}  // namespace hadal::tokenizer
