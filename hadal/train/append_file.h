// A file that only grows, and whose end is never torn by its writer's own failure.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace hadal::train {

class AppendFile {
 public:
  enum class Open { kAppend, kNew };  // kNew: throws Error if the file is there

  AppendFile(std::filesystem::path path, Open how);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // All of it in one go, so that a killed process tears the last record at most; where it throws (disk full), none.
  void write(std::string_view bytes);
  void sync();
  // Takes the place of the file `path`, with all that has been written.
  void replace(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::int64_t size_ = 0;
};

}  // namespace hadal::train
