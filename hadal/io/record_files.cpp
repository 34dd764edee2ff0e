#include "hadal/io/record_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/core/log.h"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "HADALREC";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChecksumAt = kRecordHeader - sizeof(Digest);
constexpr const char* kRecord = ".record";
constexpr const char* kUnfinished = ".tmp";
constexpr std::size_t kOwnerDigits = 16;

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

void append(std::vector<std::byte>& to, const void* from, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

void append_number(std::vector<std::byte>& to, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) to.push_back(static_cast<std::byte>(value >> (8 * i)));
}

Digest checksum(std::span<const std::byte> front, std::span<const std::byte> record) {
  return Sha256().bytes(front).bytes(record).finish();
}

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

// As many bytes as there are, at most.
std::size_t read_all(int fd, std::span<std::byte> to) {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t n = ::read(fd, to.data() + done, to.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

bool only_digits(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

std::vector<std::byte> record_header(const Digest& owner, const Digest& name, std::span<const std::byte> record) {
  std::vector<std::byte> out;
  out.reserve(kRecordHeader);
  append(out, kMagic.data(), kMagic.size());
  append_number(out, kVersion, 4);
  append_number(out, 0, 4);
  append(out, owner.data(), owner.size());
  append(out, name.data(), name.size());
  append_number(out, record.size(), 8);
  const Digest sum = checksum(out, record);
  append(out, sum.data(), sum.size());
  return out;
}

std::span<const std::byte> parse_record(std::span<const std::byte> file, const Digest& owner, const Digest& name) {
  HADAL_CHECK(file.size() >= kRecordHeader, "it is cut off");
  const std::span<const std::byte> record = file.subspan(kRecordHeader);
  const std::vector<std::byte> header = record_header(owner, name, record);
  const auto differs = [&](std::size_t begin, std::size_t end) {
    return !std::equal(file.begin() + static_cast<std::ptrdiff_t>(begin),
                       file.begin() + static_cast<std::ptrdiff_t>(end),
                       header.begin() + static_cast<std::ptrdiff_t>(begin));
  };
  HADAL_CHECK(!differs(0, 16), "it is no record of this version");
  HADAL_CHECK(!differs(16, 80), "it belongs elsewhere");
  HADAL_CHECK(!differs(80, kChecksumAt), "it is cut off or longer than it says");
  HADAL_CHECK(!differs(kChecksumAt, kRecordHeader), "its checksum is wrong");
  return record;
}

RecordFiles::RecordFiles(const fs::path& directory, std::uint64_t most_bytes, const Digest& owner)
    : directory_(directory),
      own_(directory / to_hex(owner).substr(0, kOwnerDigits)),
      most_bytes_(most_bytes),
      owner_(owner) {
  std::error_code status;
  const bool there = fs::exists(directory_, status);
  fs::create_directories(directory_, status);
  if (!status && !there) fs::permissions(directory_, fs::perms::owner_all, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", directory_.string(), status.message());
  lock_ = FileLock(directory_ / "lock",
                   fmt::format("{}: is used by another process; name another directory", directory_.string()), true);
  fs::create_directory(own_, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", own_.string(), status.message());
  find_files();
  make_room(0);
}

RecordFiles::~RecordFiles() = default;

// What earlier processes have left, by the time of its last use; whatever else lies there is nobody's business.
void RecordFiles::find_files() {
  struct Found {
    fs::file_time_type used;
    File file;
  };
  std::vector<Found> found;
  std::error_code status;
  for (const fs::directory_entry& folder : fs::directory_iterator(directory_, status)) {
    const std::string owner = folder.path().filename().string();
    if (owner.size() != kOwnerDigits || !only_digits(owner) || !folder.is_directory(status)) continue;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder.path(), status)) {
      const std::string kind = entry.path().extension().string();
      const auto name = digest_from_hex(entry.path().stem().string());
      if (!name || !entry.is_regular_file(status)) continue;
      if (kind == kUnfinished) fs::remove(entry.path(), status);
      if (kind != kRecord) continue;
      File file{entry.path(), static_cast<std::uint64_t>(entry.file_size(status)), {}};
      if (folder.path() == own_) file.name = name;
      found.push_back({entry.last_write_time(status), std::move(file)});
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.used < b.used; });
  for (Found& f : found) add(std::move(f.file));
}

fs::path RecordFiles::path_of(const Digest& name) const {
  return own_ / (to_hex(name) + kRecord);
}

void RecordFiles::add(File file) {
  bytes_ += file.bytes;
  if (file.name) when_[*file.name] = clock_;
  by_use_.emplace(clock_++, std::move(file));
}

void RecordFiles::forget(std::uint64_t when) {
  const auto it = by_use_.find(when);
  std::error_code status;
  fs::remove(it->second.path, status);
  bytes_ -= it->second.bytes;
  if (it->second.name) when_.erase(*it->second.name);
  by_use_.erase(it);
}

void RecordFiles::make_room(std::uint64_t bytes) {
  while (!by_use_.empty() && bytes_ + bytes > most_bytes_) forget(by_use_.begin()->first);
}

void RecordFiles::use_locked(const Digest& name) {
  const auto it = when_.find(name);
  if (it == when_.end()) return;
  auto node = by_use_.extract(it->second);
  it->second = node.key() = clock_++;
  // The next process sees it, too.
  ::utimensat(AT_FDCWD, node.mapped().path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
  by_use_.insert(std::move(node));
}

bool RecordFiles::contains(const Digest& name) const {
  const std::lock_guard lock(mutex_);
  return when_.contains(name);
}

std::uint64_t RecordFiles::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

std::size_t RecordFiles::size() const {
  const std::lock_guard lock(mutex_);
  return when_.size();
}

void RecordFiles::use(std::span<const Digest> names) {
  const std::lock_guard lock(mutex_);
  for (auto it = names.rbegin(); it != names.rend(); ++it) use_locked(*it);
}

std::optional<std::vector<std::byte>> RecordFiles::read(const Digest& name) {
  if (!contains(name)) return {};
  const fs::path path = path_of(name);
  try {
    const Descriptor file(path, O_RDONLY);
    struct stat about{};
    HADAL_CHECK(file && ::fstat(file.fd(), &about) == 0, "{}", std::strerror(errno));
    std::vector<std::byte> bytes(static_cast<std::size_t>(about.st_size));
    bytes.resize(read_all(file.fd(), bytes));
    parse_record(bytes, owner_, name);
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(kRecordHeader));
    return bytes;
  } catch (const Error& e) {
    const std::lock_guard lock(mutex_);
    const auto it = when_.find(name);
    if (it == when_.end()) return {};  // it had to make room meanwhile
    log_warning("{}: is removed: {}", path.string(), e.what());
    forget(it->second);
    return {};
  }
}

void RecordFiles::write(const Digest& name, std::span<const std::byte> record) {
  const std::uint64_t bytes = kRecordHeader + record.size();
  if (bytes > most_bytes_ || contains(name)) return;
  {
    const std::lock_guard lock(mutex_);
    make_room(bytes);
  }
  const fs::path path = path_of(name), unfinished = own_ / (to_hex(name) + kUnfinished);
  ::unlink(unfinished.c_str());
  Descriptor file(unfinished, O_WRONLY | O_CREAT | O_EXCL);
  const bool written = file && write_all(file.fd(), record_header(owner_, name, record)) &&
                       write_all(file.fd(), record) && file.close() && ::rename(unfinished.c_str(), path.c_str()) == 0;
  if (!written) {
    const int reason = errno;
    ::unlink(unfinished.c_str());
    fail("{}: cannot be written: {}", path.string(), std::strerror(reason));
  }
  const std::lock_guard lock(mutex_);
  add({path, bytes, name});
}

}  // namespace hadal::io
