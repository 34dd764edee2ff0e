// Writes a shard as a stream of documents. Memory: a buffer, and eight bytes a document.
#pragma once

#include <vector>

#include "hadal/data/output_file.h"
#include "hadal/data/shard.h"

namespace hadal::data {

class ShardWriter {
 public:
  ShardWriter(std::filesystem::path path, std::uint32_t vocab_size, const io::Digest& tokenizer);

  // Ids below vocab_size, at least one; `text_bytes` is the length of the text they stand for.
  void add(std::span<const TokenId> document, std::uint64_t text_bytes);
  const ShardHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return file_.path(); }
  std::uint64_t bytes() const { return header_.data_bytes(); }
  // Index and header; the file has its name from now on. Returns its digest.
  io::Digest finish();

 private:
  void write_data(std::span<const std::byte> bytes);

  OutputFile file_;
  ShardHeader header_;
  std::vector<std::uint64_t> offsets_{0};
  std::vector<io::Digest> sums_;
  std::vector<std::byte> chunk_, encoded_;  // of the tokens: what has no checksum yet; one document
};

}  // namespace hadal::data
