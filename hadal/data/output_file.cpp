#include "hadal/data/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "hadal/core/error.h"

namespace hadal::data {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
// Written data is pushed to the disk and out of the page cache in steps, so that a long stream does not fill it.
constexpr std::uint64_t kSyncStep = std::uint64_t{256} << 20;

}  // namespace

OutputFile::OutputFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp" + std::to_string(::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  HADAL_CHECK(fd_ >= 0, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::fail_writing(int reason) const {
  fail("{}: cannot be written: {}{}", path_.string(), std::strerror(reason),
       reason == ENOSPC || reason == EFBIG || reason == EDQUOT ? "; free some space and start again" : "");
}

void OutputFile::put(std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_writing(n < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

void OutputFile::flush() {
  put(std::as_bytes(std::span(buffer_)), flushed_);
  flushed_ += buffer_.size();
  buffer_.clear();
  if (flushed_ - synced_ < kSyncStep) return;
  if (::fdatasync(fd_) != 0) fail_writing(errno);
  ::posix_fadvise(fd_, 0, static_cast<off_t>(flushed_), POSIX_FADV_DONTNEED);
  synced_ = flushed_;
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t part = std::min(bytes.size(), kBufferBytes - buffer_.size());
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), part);
    bytes = bytes.subspan(part);
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void OutputFile::rewrite(std::uint64_t offset, std::span<const std::byte> bytes) {
  flush();
  put(bytes, offset);
}

void OutputFile::finish() {
  flush();
  if (::fsync(fd_) != 0) fail_writing(errno);
  if (::close(std::exchange(fd_, -1)) != 0) fail_writing(errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_writing(errno);
  temporary_.clear();
}

}  // namespace hadal::data
