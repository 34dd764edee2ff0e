#include "hadal/data/token_stream.h"

#include <algorithm>

namespace hadal::data {

TokenStream::TokenStream(const std::vector<std::unique_ptr<Shard>>& shards) {
  for (const auto& shard : shards) {
    if (shard->tokens() == 0) continue;
    shards_.push_back(shard.get());
    begins_.push_back(end_);
    end_ += shard->tokens();
  }
}

template <class Body>
void TokenStream::for_each_part(std::uint64_t first, std::size_t count, const Body& body) const {
  auto shard = static_cast<std::size_t>(std::upper_bound(begins_.begin(), begins_.end(), first) - begins_.begin()) - 1;
  for (std::size_t done = 0; done < count; ++shard) {
    const std::uint64_t at = first + done - begins_[shard];
    const std::size_t n = std::min<std::uint64_t>(count - done, shards_[shard]->tokens() - at);
    body(*shards_[shard], at, done, n);
    done += n;
  }
}

void TokenStream::read(std::uint64_t first, std::span<TokenId> out) const {
  HADAL_CHECK(first <= end_ && out.size() <= end_ - first,
              "token stream: {} tokens from {} on were asked for, it has {}", out.size(), first, end_);
  for_each_part(first, out.size(), [&](const Shard& shard, std::uint64_t at, std::size_t done, std::size_t n) {
    shard.read(at, out.subspan(done, n));
  });
}

void TokenStream::documents(std::uint64_t first, std::span<std::int32_t> out, std::vector<bool>& ends) const {
  std::int32_t number = -1;
  ends.assign(out.size(), false);
  for_each_part(first, out.size(), [&](const Shard& shard, std::uint64_t at, std::size_t done, std::size_t n) {
    std::uint64_t document = shard.document_at(at);
    for (std::size_t i = 0; i < n;) {
      const std::uint64_t end = shard.begin_of(++document);
      ++number;
      for (; i < n && at + i < end; ++i) out[done + i] = number;
      if (at + i == end) ends[done + i - 1] = true;
    }
  });
}

}  // namespace hadal::data
