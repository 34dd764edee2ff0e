// Token ids and their bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::tokenizer {

using TokenId = std::int32_t;

class Vocabulary {
 public:
  // Gives `id` its bytes. Ids may come in any order and leave gaps; a second assignment replaces the first.
  void assign(TokenId id, std::string_view bytes);
  // Highest assigned id + 1.
  TokenId size() const { return static_cast<TokenId>(places_.size()); }
  bool is_assigned(TokenId id) const {
    return id >= 0 && id < size() && places_[static_cast<std::size_t>(id)].assigned;
  }
  // Empty for an id that is not assigned.
  std::string_view bytes(TokenId id) const;

 private:
  struct Place {
    std::uint32_t begin = 0;
    std::uint32_t length = 0;
    bool assigned = false;
  };
  std::string arena_;
  std::vector<Place> places_;
};

}  // namespace hadal::tokenizer
