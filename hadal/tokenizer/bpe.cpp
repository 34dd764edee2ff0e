#include "hadal/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <queue>

namespace hadal::tokenizer {
namespace {

// Up to here looking at every pair for each merge beats a heap.
constexpr std::size_t kShortPiece = 48;
constexpr std::int32_t kNoMerge = std::numeric_limits<std::int32_t>::max();

std::uint64_t pair_key(TokenId left, TokenId right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::uint64_t mix(std::uint64_t x) {
  x *= 0x9E3779B97F4A7C15u;
  return x ^ (x >> 29);
}

std::array<std::uint64_t, 2> cache_key(std::string_view piece) {
  std::array<std::uint64_t, 2> key{};
  std::memcpy(key.data(), piece.data(), piece.size());
  return key;
}

}  // namespace

Bpe::Cache::Slot& Bpe::Cache::slot(const std::array<std::uint64_t, 2>& key, std::size_t length) {
  return slots_[mix(key[0] ^ mix(key[1] + length)) >> (64 - kBits)];
}

Bpe::Bpe(std::array<TokenId, 256> byte_ids, const std::vector<Merge>& merges,
         std::unordered_map<std::string, TokenId> whole_pieces)
    : byte_ids_(byte_ids), table_(std::bit_ceil(merges.size() * 2 + 2)), whole_pieces_(std::move(whole_pieces)) {
  for (const Merge& m : merges) {
    const std::uint64_t key = pair_key(m.left, m.right);
    std::size_t i = mix(key) & (table_.size() - 1);
    while (table_[i].pair != ~std::uint64_t{0} && table_[i].pair != key) i = (i + 1) & (table_.size() - 1);
    // Of a pair listed twice the later rank counts, as in a dictionary built in file order.
    table_[i] = {key, m.rank, m.merged};
  }
}

const Bpe::Entry* Bpe::find(TokenId left, TokenId right) const {
  const std::uint64_t key = pair_key(left, right);
  for (std::size_t i = mix(key) & (table_.size() - 1);; i = (i + 1) & (table_.size() - 1)) {
    if (table_[i].pair == key) return &table_[i];
    if (table_[i].pair == ~std::uint64_t{0}) return nullptr;
  }
}

void Bpe::merge_short(std::vector<TokenId>& ids) const {
  std::array<std::int32_t, kShortPiece> ranks;
  std::size_t n = ids.size();
  const auto rank_at = [&](std::size_t i) {
    if (i + 1 >= n) return kNoMerge;
    const Entry* e = find(ids[i], ids[i + 1]);
    return e ? e->rank : kNoMerge;
  };
  for (std::size_t i = 0; i < n; ++i) ranks[i] = rank_at(i);
  while (n > 1) {
    const auto best = static_cast<std::size_t>(
        std::min_element(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(n)) - ranks.begin());
    if (ranks[best] == kNoMerge) break;
    ids[best] = find(ids[best], ids[best + 1])->merged;
    --n;
    for (std::size_t i = best + 1; i < n; ++i) ids[i] = ids[i + 1], ranks[i] = ranks[i + 1];
    ranks[best] = rank_at(best);
    if (best > 0) ranks[best - 1] = rank_at(best - 1);
  }
  ids.resize(n);
}

void Bpe::merge_long(std::vector<TokenId>& ids) const {
  // A list through the vectors; candidates wait in a heap and are checked again when their turn comes.
  struct Candidate {
    std::int32_t rank;
    std::int32_t at;
    TokenId left, right;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  const auto n = static_cast<std::int32_t>(ids.size());
  std::vector<std::int32_t> next(ids.size()), previous(ids.size());
  for (std::int32_t i = 0; i < n; ++i) {
    next[static_cast<std::size_t>(i)] = i + 1 < n ? i + 1 : -1;
    previous[static_cast<std::size_t>(i)] = i - 1;
  }
  std::vector<Candidate> initial;
  initial.reserve(ids.size());
  const auto candidate = [&](std::int32_t i, auto&& add) {
    if (i < 0 || next[static_cast<std::size_t>(i)] < 0) return;
    const TokenId left = ids[static_cast<std::size_t>(i)];
    const TokenId right = ids[static_cast<std::size_t>(next[static_cast<std::size_t>(i)])];
    if (const Entry* e = find(left, right)) add(Candidate{e->rank, i, left, right});
  };
  for (std::int32_t i = 0; i < n; ++i) candidate(i, [&](const Candidate& c) { initial.push_back(c); });
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap(std::greater<>(), std::move(initial));
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    const auto at = static_cast<std::size_t>(c.at);
    const std::int32_t right = next[at];
    if (ids[at] != c.left || right < 0 || ids[static_cast<std::size_t>(right)] != c.right) continue;
    ids[at] = find(c.left, c.right)->merged;
    ids[static_cast<std::size_t>(right)] = -1;
    next[at] = next[static_cast<std::size_t>(right)];
    if (next[at] >= 0) previous[static_cast<std::size_t>(next[at])] = c.at;
    candidate(c.at, [&](const Candidate& more) { heap.push(more); });
    candidate(previous[at], [&](const Candidate& more) { heap.push(more); });
  }
  std::erase(ids, -1);
}

void Bpe::encode_uncached(std::string_view piece, std::vector<TokenId>& out) const {
  if (!whole_pieces_.empty()) {
    const auto whole = whole_pieces_.find(std::string(piece));
    if (whole != whole_pieces_.end()) return out.push_back(whole->second);
  }
  std::vector<TokenId> ids;
  ids.reserve(piece.size());
  for (char b : piece)
    if (const TokenId id = byte_ids_[static_cast<unsigned char>(b)]; id >= 0) ids.push_back(id);
  if (ids.size() <= kShortPiece)
    merge_short(ids);
  else
    merge_long(ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

void Bpe::encode(std::string_view piece, Cache& cache, std::vector<TokenId>& out) const {
  if (piece.size() > Cache::kLongestKey) return encode_uncached(piece, out);
  const auto key = cache_key(piece);
  Cache::Slot& slot = cache.slot(key, piece.size());
  if (slot.length == piece.size() && slot.key == key) {
    out.insert(out.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
    return;
  }
  const std::size_t before = out.size();
  encode_uncached(piece, out);
  const std::size_t count = out.size() - before;
  if (count > Cache::kMostIds || piece.empty()) return;
  slot.key = key;
  slot.length = static_cast<std::uint8_t>(piece.size());
  slot.count = static_cast<std::uint8_t>(count);
  std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(before), count, slot.ids.begin());
}

}  // namespace hadal::tokenizer
