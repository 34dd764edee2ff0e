#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/safetensors.h"

namespace hadal::io {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
// Written data is pushed to the disk and out of the page cache in steps, so that a long stream does not fill it.
constexpr std::uint64_t kSyncStep = std::uint64_t{256} << 20;
constexpr std::size_t kDataAlignment = 64;

std::string header_text(const std::vector<SafetensorsWriter::Entry>& entries,
                        const std::map<std::string, std::string>& metadata) {
  // Not Json: nlohmann's ordered objects search all keys for each insertion.
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + Json(metadata).dump();
  std::uint64_t at = 0;
  for (const auto& entry : entries) {
    const std::uint64_t end = at + static_cast<std::uint64_t>(entry.shape.num_elements()) * dtype_bytes(entry.dtype);
    std::string dims;
    for (Index d : entry.shape) dims += (dims.empty() ? "" : ",") + std::to_string(d);
    text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", text.size() > 1 ? "," : "",
                        Json(entry.name).dump(), dtype_name(entry.dtype), dims, at, end);
    at = end;
  }
  text += "}";
  text.append((kDataAlignment - (8 + text.size()) % kDataAlignment) % kDataAlignment, ' ');
  return text;
}

}  // namespace

struct SafetensorsWriter::State {
  std::filesystem::path path;
  std::string temporary;
  std::vector<Entry> entries;
  int fd = -1;
  std::string buffer;
  std::uint64_t expected = 0, received = 0, flushed = 0, synced = 0;
  std::size_t next_entry = 0;

  ~State() {
    if (fd >= 0) ::close(fd);
    if (!temporary.empty()) ::unlink(temporary.c_str());
  }

  [[noreturn]] void fail_writing(int reason) const {
    fail("{}: cannot be written: {}{}", path.string(), std::strerror(reason),
         reason == ENOSPC || reason == EFBIG ? "; free some space and start again" : "");
  }

  void flush() {
    std::size_t done = 0;
    while (done < buffer.size()) {
      const ssize_t n = ::write(fd, buffer.data() + done, buffer.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail_writing(errno);
      done += static_cast<std::size_t>(n);
    }
    flushed += buffer.size();
    buffer.clear();
    if (flushed - synced < kSyncStep) return;
    ::fdatasync(fd);
    ::posix_fadvise(fd, 0, static_cast<off_t>(flushed), POSIX_FADV_DONTNEED);
    synced = flushed;
  }

  void append(const char* data, std::size_t size) {
    while (size > 0) {
      const std::size_t part = std::min(size, kBufferBytes - buffer.size());
      buffer.append(data, part);
      data += part;
      size -= part;
      if (buffer.size() == kBufferBytes) flush();
    }
  }

  void check_space(std::uint64_t needed) const {
    struct statvfs fs{};
    if (::fstatvfs(fd, &fs) != 0) return;
    const std::uint64_t free_bytes = std::uint64_t{fs.f_bavail} * fs.f_frsize;
    HADAL_CHECK(needed <= free_bytes,
                "{}: needs {:.2f} GB and the disk has {:.2f} GB free; free some space and start again", path.string(),
                static_cast<double>(needed) * 1e-9, static_cast<double>(free_bytes) * 1e-9);
  }
};

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<Entry> entries,
                                     std::map<std::string, std::string> metadata)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = std::move(path);
  s.entries = std::move(entries);
  for (const Entry& e : s.entries)
    s.expected += static_cast<std::uint64_t>(e.shape.num_elements()) * dtype_bytes(e.dtype);
  const std::string temporary = s.path.string() + ".tmp" + std::to_string(::getpid());
  s.fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  HADAL_CHECK(s.fd >= 0, "{}: cannot be written: {}", s.path.string(), std::strerror(errno));
  s.temporary = temporary;
  const std::string header = header_text(s.entries, metadata);
  s.check_space(header.size() + s.expected);
  s.buffer.reserve(kBufferBytes);
  char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  s.append(length, 8);
  s.append(header.data(), header.size());
}

SafetensorsWriter::~SafetensorsWriter() = default;
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  State& s = *state_;
  s.received += bytes.size();
  HADAL_CHECK(s.received <= s.expected, "{}: more data than its header has tensors", s.path.string());
  s.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void SafetensorsWriter::write(const ConstTensorRef& tensor) {
  State& s = *state_;
  HADAL_CHECK(s.next_entry < s.entries.size(), "{}: more tensors than its header has", s.path.string());
  const Entry& entry = s.entries[s.next_entry++];
  HADAL_CHECK(tensor.is_contiguous() && tensor.dtype() == entry.dtype && tensor.shape() == entry.shape,
              "{}: tensor {} was announced as {} {}, {} {} came", s.path.string(), entry.name, dtype_name(entry.dtype),
              entry.shape.to_string(), dtype_name(tensor.dtype()), tensor.shape().to_string());
  write(std::span(static_cast<const std::byte*>(tensor.raw()), static_cast<std::size_t>(tensor.num_bytes())));
}

void SafetensorsWriter::finish() {
  State& s = *state_;
  HADAL_CHECK(s.received == s.expected, "{}: {} of {} bytes came", s.path.string(), s.received, s.expected);
  s.flush();
  if (::fsync(s.fd) != 0) s.fail_writing(errno);
  if (::close(std::exchange(s.fd, -1)) != 0) s.fail_writing(errno);
  if (::rename(s.temporary.c_str(), s.path.c_str()) != 0) s.fail_writing(errno);
  s.temporary.clear();
}

}  // namespace hadal::io
