// Token shards: documents of one source as token ids, one after another. Whoever reads one never sees a byte that is
// not the one that was written: every part has a checksum, and tokens are checked, 64 KiB at a time, when they are
// first used, so that opening a large data set costs nothing.
//
// A file, integers little-endian:
//   header, 256 bytes: "HADALTOK", u32 version 1, u32 bytes of a token (2 or 4), u32 vocab_size, u32 0, tokenizer [32]
//     (data/tokenizer_identity.h), u64 documents, u64 tokens, u64 bytes of their text, SHA-256 [32] of the index,
//     zeros, SHA-256 [32] of all that before it
//   the tokens, then zeros up to a multiple of 8 bytes
//   index: u64 [documents + 1], the tokens before each document and before the end; SHA-256 [32] of each 64 KiB of the
//     tokens (zeros included)
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "hadal/data/token_ids.h"
#include "hadal/io/digest.h"
#include "hadal/io/mapped_file.h"

namespace hadal::data {

inline constexpr std::size_t kShardHeader = 256;
inline constexpr std::uint64_t kShardChunk = std::uint64_t{64} << 10;  // bytes of tokens under one checksum

struct ShardHeader {
  std::uint32_t token_bytes = 2;
  std::uint32_t vocab_size = 0;
  io::Digest tokenizer{};
  std::uint64_t documents = 0, tokens = 0, text_bytes = 0;
  io::Digest index{};

  std::uint64_t data_bytes() const { return (tokens * token_bytes + 7) / 8 * 8; }
  std::uint64_t chunks() const { return (data_bytes() + kShardChunk - 1) / kShardChunk; }
  std::uint64_t index_begin() const { return kShardHeader + data_bytes(); }
  std::uint64_t index_bytes() const { return (documents + 1) * 8 + chunks() * sizeof(io::Digest); }
};

// The narrowest width that all ids below vocab_size have room in.
std::uint32_t token_bytes_for(std::uint32_t vocab_size);

// The header's bytes, and the header in a file's first bytes; parse throws Error that says what is wrong ("it is cut
// off") without naming the file, as do the other checks.
std::vector<std::byte> shard_header_bytes(const ShardHeader& header);
ShardHeader parse_shard_header(std::span<const std::byte> begin, std::uint64_t file_size);
void check_shard_index(const ShardHeader& header, std::span<const std::byte> index);
// `chunk` are the bytes of chunk `number` of the tokens.
void check_shard_chunk(const ShardHeader& header, std::span<const std::byte> index, std::uint64_t number,
                       std::span<const std::byte> chunk);

class Shard {
 public:
  // Throws Error, the file named, for what is no shard as it was written.
  explicit Shard(const std::filesystem::path& path);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const ShardHeader& header() const { return header_; }
  const io::Digest& digest() const { return digest_; }  // of everything in it
  std::uint64_t documents() const { return header_.documents; }
  std::uint64_t tokens() const { return header_.tokens; }

  // Tokens before document i; of i = documents(): all.
  std::uint64_t begin_of(std::uint64_t document) const;
  std::uint64_t document_at(std::uint64_t token) const;
  // Tokens [first, first + out.size()). From any thread.
  void read(std::uint64_t first, std::span<TokenId> out) const;
  // Reads everything, so that damage is an Error now.
  void verify() const;

 private:
  std::span<const std::byte> index() const;
  void read_chunk(std::uint64_t number, std::uint64_t begin, std::span<std::byte> out) const;
  void read_bytes(std::uint64_t offset, std::span<std::byte> out) const;

  std::filesystem::path path_;
  io::MappedFile file_;  // of which only the index is touched: tokens are read, and take no resident memory
  int fd_ = -1;
  ShardHeader header_;
  io::Digest digest_{};
  std::unique_ptr<std::atomic<bool>[]> checked_;  // of each chunk
};

}  // namespace hadal::data
