// A file that is there whole or not at all: it has a temporary name until finish(), which writes everything to the disk
// and renames it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace hadal::data {

class OutputFile {
 public:
  // Throws Error naming the file and the system's reason, as everything here does.
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();  // removes what was not finished
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return flushed_ + buffer_.size(); }

  void write(std::span<const std::byte> bytes);
  // Over bytes that were written before.
  void rewrite(std::uint64_t offset, std::span<const std::byte> bytes);
  void finish();

 private:
  void flush();
  void put(std::span<const std::byte> bytes, std::uint64_t offset);
  [[noreturn]] void fail_writing(int reason) const;

  std::filesystem::path path_;
  std::string temporary_, buffer_;
  int fd_ = -1;
  std::uint64_t flushed_ = 0, synced_ = 0;
};

}  // namespace hadal::data
