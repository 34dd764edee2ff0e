#include "hadal/data/shard_writer.h"

#include <algorithm>

#include "hadal/data/little_endian.h"

namespace hadal::data {

ShardWriter::ShardWriter(std::filesystem::path path, std::uint32_t vocab_size, const io::Digest& tokenizer)
    : file_(std::move(path)) {
  header_.token_bytes = token_bytes_for(vocab_size);
  header_.vocab_size = vocab_size;
  header_.tokenizer = tokenizer;
  file_.write(std::vector<std::byte>(kShardHeader));
}

void ShardWriter::write_data(std::span<const std::byte> bytes) {
  file_.write(bytes);
  while (!bytes.empty()) {
    const std::size_t part = std::min<std::size_t>(bytes.size(), kShardChunk - chunk_.size());
    chunk_.insert(chunk_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(part));
    bytes = bytes.subspan(part);
    if (chunk_.size() < kShardChunk) continue;
    sums_.push_back(io::Sha256().bytes(chunk_).finish());
    chunk_.clear();
  }
}

void ShardWriter::add(std::span<const TokenId> document, std::uint64_t text_bytes) {
  HADAL_CHECK(!document.empty(), "{}: a document without tokens cannot be stored", path().string());
  encoded_.clear();
  for (const TokenId id : document) {
    HADAL_CHECK(id >= 0 && static_cast<std::uint32_t>(id) < header_.vocab_size, "{}: token {}, ids are below {}",
                path().string(), id, header_.vocab_size);
    if (header_.token_bytes == 2)
      append_number(encoded_, static_cast<std::uint16_t>(id));
    else
      append_number(encoded_, id);
  }
  write_data(encoded_);
  header_.tokens += document.size();
  header_.text_bytes += text_bytes;
  ++header_.documents;
  offsets_.push_back(header_.tokens);
}

io::Digest ShardWriter::finish() {
  write_data(std::vector<std::byte>(header_.data_bytes() - header_.tokens * header_.token_bytes));
  if (!chunk_.empty()) sums_.push_back(io::Sha256().bytes(chunk_).finish());
  const auto offsets = std::as_bytes(std::span(offsets_)), sums = std::as_bytes(std::span(sums_));
  header_.index = io::Sha256().bytes(offsets).bytes(sums).finish();
  file_.write(offsets);
  file_.write(sums);
  const std::vector<std::byte> header = shard_header_bytes(header_);
  file_.rewrite(0, header);
  file_.finish();
  io::Digest digest;
  std::copy_n(reinterpret_cast<const std::uint8_t*>(header.data()) + header.size() - digest.size(), digest.size(),
              digest.begin());
  return digest;
}

}  // namespace hadal::data
