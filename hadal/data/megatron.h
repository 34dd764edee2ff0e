// Megatron-LM's indexed data sets, PREFIX.bin (token ids, one sequence after another) and PREFIX.idx (where they lie),
// as megatron/core/datasets/indexed_dataset.py reads and writes them.
//
// PREFIX.idx, integers little-endian: "MMIDIDX\0\0", u64 version 1, u8 dtype, u64 sequences, u64 entries of the
// document index, i32 [sequences] lengths in tokens, i64 [sequences] places in PREFIX.bin in bytes, i64 [entries]
// document index: the sequences before each document and before the end; in multimodal sets i8 [sequences] modes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "hadal/data/output_file.h"
#include "hadal/data/token_ids.h"
#include "hadal/io/mapped_file.h"

namespace hadal::data {

// What the index says, without copying it. The bytes are those of the file and outlive this.
class MegatronIndex {
 public:
  // Checks every number against the others and the size of PREFIX.bin; throws Error that says what is wrong.
  MegatronIndex(std::span<const std::byte> bytes, std::uint64_t bin_size);

  DType dtype() const { return dtype_; }
  std::uint64_t sequences() const { return sequences_; }
  std::uint64_t documents() const { return entries_ - 1; }
  std::uint64_t tokens() const { return tokens_; }
  std::uint64_t length(std::uint64_t sequence) const;
  std::uint64_t place(std::uint64_t sequence) const;  // bytes
  // Sequences before document i; of i = documents(): all.
  std::uint64_t first_of(std::uint64_t document) const;

 private:
  std::span<const std::byte> lengths_, places_, first_;
  DType dtype_ = DType::kI32;
  std::uint64_t sequences_ = 0, entries_ = 0, tokens_ = 0;
};

class MegatronDataset {
 public:
  // `prefix` without an extension, or one of the two files.
  explicit MegatronDataset(const std::filesystem::path& prefix);

  const MegatronIndex& index() const { return index_; }
  const std::filesystem::path& prefix() const { return prefix_; }
  // The tokens of a document. Throws Error for ids that are not below vocab_size.
  std::vector<TokenId> document(std::uint64_t number, std::int64_t vocab_size) const;
  void release() const { bin_.release(); }

 private:
  std::filesystem::path prefix_;
  io::MappedFile idx_, bin_;
  MegatronIndex index_;
};

// Writes one as a stream, each document one sequence: ids in uint16 below 65500, else int32, as Megatron does itself.
// Both files have their names at the end, or neither.
class MegatronWriter {
 public:
  MegatronWriter(const std::filesystem::path& prefix, std::int64_t vocab_size);
  void add(std::span<const TokenId> document);
  void finish();

 private:
  OutputFile bin_, idx_;
  DType dtype_;
  std::vector<std::int32_t> lengths_;
  std::vector<std::byte> encoded_;
};

// "data/books.bin" or "data/books.idx" or "data/books" to "data/books".
std::filesystem::path megatron_prefix(const std::filesystem::path& path);

}  // namespace hadal::data
