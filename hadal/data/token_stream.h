// The shards of a source as one row of tokens.
#pragma once

#include <memory>
#include <vector>

#include "hadal/data/shard.h"

namespace hadal::data {

class TokenStream {
 public:
  // The shards outlive it.
  explicit TokenStream(const std::vector<std::unique_ptr<Shard>>& shards);

  std::uint64_t size() const { return end_; }
  // Tokens [first, first + out.size()). From any thread.
  void read(std::uint64_t first, std::span<TokenId> out) const;
  // Which document each of these tokens belongs to, counted from the first one's; `ends`: whether it is its last token.
  void documents(std::uint64_t first, std::span<std::int32_t> out, std::vector<bool>& ends) const;

 private:
  // body(shard, token in it, how many were before, how many)
  template <class Body>
  void for_each_part(std::uint64_t first, std::size_t count, const Body& body) const;

  std::vector<const Shard*> shards_;
  std::vector<std::uint64_t> begins_;  // tokens before each
  std::uint64_t end_ = 0;
};

}  // namespace hadal::data
