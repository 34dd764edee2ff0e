#include "hadal/infer/prompt_lookup.h"

#include <algorithm>

namespace hadal::infer {
namespace {

// FNV-1a over the ids. A collision costs a bad draft, no more.
std::uint64_t hash_of(std::span<const TokenId> ids) {
  std::uint64_t hash = 14695981039346656037u;
  for (const TokenId id : ids) hash = (hash ^ static_cast<std::uint32_t>(id)) * 1099511628211u;
  return hash;
}

std::uint64_t hash_before(std::span<const TokenId> ids, Index end, Index length) {
  return hash_of(ids.subspan(static_cast<std::size_t>(end - length), static_cast<std::size_t>(length)));
}

}  // namespace

void PromptLookup::learn(std::span<const TokenId> ids) {
  // A stretch is known once something follows it, so the end of `ids` never finds itself.
  for (Index end = std::max<Index>(learnt_, 1); end < static_cast<Index>(ids.size()); ++end)
    for (Index length = kLeast; length <= std::min(kMost, end); ++length)
      ends_[static_cast<std::size_t>(length - kLeast)][hash_before(ids, end, length)] = end;
  learnt_ = static_cast<Index>(ids.size());
}

std::vector<TokenId> PromptLookup::draft(std::span<const TokenId> ids, Index most) const {
  const auto size = static_cast<Index>(ids.size());
  for (Index length = std::min(kMost, size); length >= kLeast; --length) {
    const Ends& ends = ends_[static_cast<std::size_t>(length - kLeast)];
    const auto found = ends.find(hash_before(ids, size, length));
    if (found == ends.end()) continue;
    const auto begin = ids.begin() + found->second;
    return {begin, begin + std::min(std::max<Index>(most, 0), size - found->second)};
  }
  return {};
}

void PromptLookup::clear() {
  for (Ends& ends : ends_) ends.clear();
  learnt_ = 0;
}

}  // namespace hadal::infer
