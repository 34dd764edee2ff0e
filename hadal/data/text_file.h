// Bytes of a file, unpacked if it is gzip or zstd (known by its first bytes, not by its name), as a stream.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace hadal::data {

class TextFile {
 public:
  // Throws Error, the file named, here and in read: if it cannot be read, is packed in another way, cut off or damaged.
  explicit TextFile(std::filesystem::path path);
  ~TextFile();
  TextFile(TextFile&&) noexcept;

  // As many bytes as there are at the moment, at least one; 0 at the end.
  std::size_t read(std::span<char> out);
  // Of the file as it lies on the disk: how much has been read.
  std::uint64_t consumed() const;
  const std::filesystem::path& path() const;

  class Blocks;   // the file's own bytes
  class Packing;  // how they are to be unpacked

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hadal::data
