// A file that one process at a time holds, so that what lies beside it has one writer.
#pragma once

#include <filesystem>
#include <string>

namespace hadal::io {

class FileLock {
 public:
  FileLock() = default;
  // Makes the file, for its owner alone if `private_file`, and takes it. Throws Error: with `taken` if another process
  // holds it, otherwise with a sentence that names the file and the reason.
  FileLock(const std::filesystem::path& file, const std::string& taken, bool private_file = false);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  int descriptor_ = -1;
};

}  // namespace hadal::io
