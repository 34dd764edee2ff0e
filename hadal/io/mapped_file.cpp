#include "hadal/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "hadal/core/error.h"

namespace hadal::io {
namespace {

// Read by a signal handler, hence neither locks nor containers. More files than this are mapped as well, but unnamed.
struct Entry {
  std::atomic<const char*> path{nullptr};
  std::atomic<const std::byte*> data{nullptr};
  std::atomic<std::size_t> size{0};
};
Entry table[1024];

int enter(const std::filesystem::path& path, const std::byte* data, std::size_t size) {
  char* copy = ::strdup(path.c_str());
  for (int i = 0; copy && i < static_cast<int>(std::size(table)); ++i) {
    const char* empty = nullptr;
    if (!table[i].path.compare_exchange_strong(empty, copy)) continue;
    table[i].size.store(size);
    table[i].data.store(data);
    return i;
  }
  std::free(copy);
  return -1;
}

void leave(int place) {
  if (place < 0) return;
  table[place].data.store(nullptr);
  std::free(const_cast<char*>(table[place].path.exchange(nullptr)));
}

}  // namespace

const char* mapped_file_at(const void* address) {
  const auto* at = static_cast<const std::byte*>(address);
  for (const Entry& entry : table) {
    const std::byte* data = entry.data.load();
    if (data && at >= data && at < data + entry.size.load()) return entry.path.load();
  }
  return nullptr;
}

FileIdentity FileIdentity::of(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return {};
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = static_cast<std::uint64_t>(status.st_size),
          .changed_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  HADAL_CHECK(fd >= 0, "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  struct stat status{};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    fail("{}: is not a regular file", path.string());
  }
  size_ = static_cast<std::size_t>(status.st_size);
  identity_ = FileIdentity::of(fd);
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const int reason = errno;
    ::close(fd);
    HADAL_CHECK(mapped != MAP_FAILED, "{}: {} bytes cannot be mapped: {}", path.string(), size_, std::strerror(reason));
    data_ = static_cast<const std::byte*>(mapped);
    place_ = enter(path, data_, size_);
    return;
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  leave(place_);
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      identity_(other.identity_),
      place_(std::exchange(other.place_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(identity_, other.identity_);
  std::swap(place_, other.place_);
  return *this;
}

void MappedFile::will_need(std::size_t begin, std::size_t end) const {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  begin -= begin % page;
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_WILLNEED);
}

void MappedFile::release() const {
  if (data_) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

}  // namespace hadal::io
