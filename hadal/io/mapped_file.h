// A file mapped read-only into memory. Move-only; views of its bytes live as long as it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace hadal::io {

// Whether a file is still what it was when it was opened.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::int64_t changed_ns = 0;  // time of the last modification

  static FileIdentity of(int fd);  // all zero if the system does not tell
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error naming the path and the system's reason. An empty file gives an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const FileIdentity& identity() const { return identity_; }
  // Drops all pages from this process's resident memory; the next access reads them again.
  void release() const;
  // The bytes [begin, end) will be read soon: the system may fetch them now.
  void will_need(std::size_t begin, std::size_t end) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  FileIdentity identity_;
  int place_ = -1;  // in the table of mapped_file_at
};

// The path of the mapping that an address lies in, nullptr if none. Callable from a signal handler: reading a page of a
// file that was cut short meanwhile raises SIGBUS, and its handler wants to say which file.
const char* mapped_file_at(const void* address);

}  // namespace hadal::io
