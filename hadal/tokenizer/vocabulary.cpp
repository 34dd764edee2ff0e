#include "hadal/tokenizer/vocabulary.h"

namespace hadal::tokenizer {

void Vocabulary::assign(TokenId id, std::string_view bytes) {
  if (id >= size()) places_.resize(static_cast<std::size_t>(id) + 1);
  places_[static_cast<std::size_t>(id)] = {static_cast<std::uint32_t>(arena_.size()),
                                           static_cast<std::uint32_t>(bytes.size()), true};
  arena_ += bytes;
}

std::string_view Vocabulary::bytes(TokenId id) const {
  if (!is_assigned(id)) return {};
  const Place& p = places_[static_cast<std::size_t>(id)];
  return std::string_view(arena_).substr(p.begin, p.length);
}

}  // namespace hadal::tokenizer
