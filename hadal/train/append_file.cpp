#include "hadal/train/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "hadal/core/error.h"

namespace hadal::train {

AppendFile::AppendFile(std::filesystem::path path, Open how) : path_(std::move(path)) {
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (how == Open::kNew ? O_EXCL : 0);
  fd_ = ::open(path_.c_str(), flags, 0644);
  HADAL_CHECK(fd_ >= 0, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
  size_ = ::lseek(fd_, 0, SEEK_END);
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

void AppendFile::write(std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int reason = n < 0 ? errno : ENOSPC;
      if (::ftruncate(fd_, size_) != 0) {
        // What is left is a torn record, which readers leave out.
      }
      fail("{}: cannot be written: {}", path_.string(), std::strerror(reason));
    }
    done += static_cast<std::size_t>(n);
  }
  size_ += static_cast<std::int64_t>(bytes.size());
}

void AppendFile::sync() {
  // Pipes and some file systems cannot; that is no loss of data.
  HADAL_CHECK(::fdatasync(fd_) == 0 || errno == EINVAL || errno == EROFS, "{}: cannot be written: {}", path_.string(),
              std::strerror(errno));
}

void AppendFile::replace(const std::filesystem::path& path) {
  sync();
  HADAL_CHECK(::rename(path_.c_str(), path.c_str()) == 0, "{}: cannot be written: {}", path.string(),
              std::strerror(errno));
  path_ = path;
}

}  // namespace hadal::train
