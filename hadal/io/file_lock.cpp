#include "hadal/io/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "hadal/core/error.h"

namespace hadal::io {

FileLock::FileLock(const std::filesystem::path& file, const std::string& taken, bool private_file) {
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, private_file ? 0600 : 0644);
  HADAL_CHECK(descriptor_ >= 0, "{}: cannot be written: {}", file.string(), std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(std::exchange(descriptor_, -1));
  HADAL_CHECK(reason != EWOULDBLOCK, "{}", taken);
  fail("{}: cannot be locked: {}", file.string(), std::strerror(reason));
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

}  // namespace hadal::io
