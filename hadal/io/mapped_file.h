// A file mapped read-only into memory. Move-only; views of its bytes live as long as it does.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace hadal::io {

class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error naming the path and the system's reason. An empty file gives an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Drops all pages from this process's resident memory; the next access reads them again.
  void release() const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace hadal::io
