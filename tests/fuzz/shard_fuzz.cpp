// Token shards of any bytes: what is wrong with them, or documents and tokens within what the header says. Right
// checksums are no protection, as whoever writes a shard can write them: the second half gives them to anything.
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/data/shard.h"

namespace {

using namespace hadal;

// All checks of a file's bytes.
data::ShardHeader check(std::span<const std::byte> bytes) {
  const data::ShardHeader h = data::parse_shard_header(bytes, bytes.size());
  const auto index = bytes.subspan(h.index_begin(), h.index_bytes());
  data::check_shard_index(h, index);
  for (std::uint64_t i = 0; i < h.chunks(); ++i) {
    const std::uint64_t begin = i * data::kShardChunk;
    data::check_shard_chunk(
        h, index, i, bytes.subspan(data::kShardHeader + begin, std::min(data::kShardChunk, h.data_bytes() - begin)));
  }
  return h;
}

void walk(const data::ShardHeader& h, std::span<const std::byte> bytes) {
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i <= h.documents; ++i) {
    std::uint64_t at;
    std::memcpy(&at, bytes.data() + h.index_begin() + 8 * i, 8);
    if (at > h.tokens || at < last) __builtin_trap();
    last = at;
  }
  for (std::uint64_t i = 0; i < h.tokens; ++i) {
    std::uint32_t id = 0;
    std::memcpy(&id, bytes.data() + data::kShardHeader + i * h.token_bytes, h.token_bytes);
    if (id >= h.vocab_size) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(input, size));
  try {
    walk(check(bytes), bytes);
  } catch (const Error&) {
  }
  // u8 bytes of a token, u32 vocab_size, u64 documents, u64 tokens, then tokens and offsets.
  if (size < 21) return 0;
  data::ShardHeader h;
  h.token_bytes = input[0];
  std::memcpy(&h.vocab_size, input + 1, 4);
  std::memcpy(&h.documents, input + 5, 8);
  std::memcpy(&h.tokens, input + 13, 8);
  const auto rest = bytes.subspan(21);
  try {
    data::parse_shard_header(data::shard_header_bytes(h), ~std::uint64_t{0});
  } catch (const Error&) {
  }
  if (h.token_bytes > 4 || h.tokens > rest.size() || h.documents > rest.size()) return 0;
  const std::uint64_t offsets = (h.documents + 1) * 8;
  if (h.data_bytes() + offsets > rest.size()) return 0;
  std::vector<std::byte> index(rest.begin() + static_cast<std::ptrdiff_t>(h.data_bytes()),
                               rest.begin() + static_cast<std::ptrdiff_t>(h.data_bytes() + offsets));
  for (std::uint64_t i = 0; i < h.chunks(); ++i) {
    const std::uint64_t begin = i * data::kShardChunk;
    const auto sum =
        io::Sha256().bytes(rest.subspan(begin, std::min(data::kShardChunk, h.data_bytes() - begin))).finish();
    const auto as_bytes = std::as_bytes(std::span(sum));
    index.insert(index.end(), as_bytes.begin(), as_bytes.end());
  }
  h.index = io::Sha256().bytes(index).finish();
  std::vector<std::byte> file = data::shard_header_bytes(h);
  file.insert(file.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(h.data_bytes()));
  file.insert(file.end(), index.begin(), index.end());
  try {
    walk(check(file), file);
  } catch (const Error&) {
  }
  return 0;
}
