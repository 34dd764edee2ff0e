// Byte-pair encoding by merge rank (rule 2): among all neighbouring pairs that have a merge, the one of lowest rank is
// merged, the leftmost among equals, until none is left.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hadal/tokenizer/vocabulary.h"

namespace hadal::tokenizer {

struct Merge {
  TokenId left, right, merged;
  std::int32_t rank;
};

class Bpe {
 public:
  // byte_ids[b] is the token of the single byte b, or -1: such bytes are dropped, as the `tokenizers` package does.
  // whole_pieces: pieces that are tokens themselves are never taken apart (`ignore_merges`); may be empty.
  Bpe(std::array<TokenId, 256> byte_ids, const std::vector<Merge>& merges,
      std::unordered_map<std::string, TokenId> whole_pieces = {});

  // Remembers the ids of pieces seen. One per thread at a time; of fixed size.
  class Cache;

  // Appends the ids of one piece. Time is linear in its length for short pieces, n log n for long ones.
  void encode(std::string_view piece, Cache& cache, std::vector<TokenId>& out) const;
  void encode_uncached(std::string_view piece, std::vector<TokenId>& out) const;

 private:
  struct Entry {
    std::uint64_t pair = ~std::uint64_t{0};  // left << 32 | right
    std::int32_t rank = 0;
    TokenId merged = 0;
  };
  const Entry* find(TokenId left, TokenId right) const;
  void merge_short(std::vector<TokenId>& ids) const;
  void merge_long(std::vector<TokenId>& ids) const;

  std::array<TokenId, 256> byte_ids_;
  std::vector<Entry> table_;  // open addressing, a power of two in size
  std::unordered_map<std::string, TokenId> whole_pieces_;
};

// A direct-mapped table: a piece evicts the one before it in its slot.
class Bpe::Cache {
 public:
  static constexpr std::size_t kLongestKey = 16, kMostIds = 5;
  struct Slot {
    std::array<std::uint64_t, 2> key{};
    std::uint8_t length = 0;  // of the piece; 0: empty
    std::uint8_t count = 0;
    std::array<TokenId, kMostIds> ids{};
  };
  Slot& slot(const std::array<std::uint64_t, 2>& key, std::size_t length);

 private:
  static constexpr std::size_t kBits = 16;
  std::vector<Slot> slots_ = std::vector<Slot>(std::size_t{1} << kBits);
};

}  // namespace hadal::tokenizer
