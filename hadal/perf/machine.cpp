#include "hadal/perf/machine.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

namespace hadal::perf {
namespace {

constexpr std::int64_t kRequest = std::int64_t{4} << 20;
constexpr std::int64_t kAlignment = 4096;
constexpr std::int64_t kTemporaryBytes = std::int64_t{1} << 30;
constexpr std::int64_t kMostBytes = std::int64_t{4} << 30;

Row rate_row(std::string name, const char* unit, std::vector<double> rates) {
  for (double& rate : rates) rate *= 1e-9;
  return {.name = std::move(name), .unit = unit, .value = spread_of(rates)};
}

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {
    HADAL_CHECK(fd_ >= 0, "{}: cannot be opened{}: {}", path.string(),
                flags & O_DIRECT ? " for reads past the page cache (O_DIRECT); name a file on a disk" : "",
                std::strerror(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

class TemporaryFile {
 public:
  explicit TemporaryFile(const Poll& poll)
      : path_(std::filesystem::temp_directory_path() / fmt::format("hadal-bench-{}", ::getpid())) {
    const Descriptor file(path_, O_CREAT | O_EXCL | O_WRONLY);
    try {
      write_all(file, poll);
    } catch (...) {
      ::unlink(path_.c_str());
      throw;
    }
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_all(const Descriptor& file, const Poll& poll) const {
    std::vector<char> block(static_cast<std::size_t>(kRequest));
    for (std::size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(i * 2654435761u >> 13);
    for (std::int64_t done = 0; done < kTemporaryBytes; done += kRequest) {
      poll();
      HADAL_CHECK(::write(file.get(), block.data(), block.size()) == kRequest,
                  "{}: cannot be written: {}; name a file to read with --disk, or leave the disk out with --no-disk",
                  path_.string(), std::strerror(errno));
    }
    ::fsync(file.get());
  }

  std::filesystem::path path_;
};

double disk_rate(Context& ctx, const std::filesystem::path& path, std::int64_t bytes) {
  const Descriptor file(path, O_RDONLY | O_DIRECT);
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef memory = ctx.workspace.tensor(DType::kU8, {ctx.threads.num_threads() * kRequest + kAlignment});
  char* first = static_cast<char*>(memory.raw());
  first += (kAlignment - static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(first) % kAlignment)) % kAlignment;
  const auto start = std::chrono::steady_clock::now();
  ctx.threads.parallel_for(bytes / kRequest, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      HADAL_CHECK(
          ::pread(file.get(), first + ThreadPool::current_thread() * kRequest, kRequest, i * kRequest) == kRequest,
          "{}: cannot be read past the page cache (O_DIRECT): {}", path.string(), std::strerror(errno));
  });
  return static_cast<double>(bytes / kRequest * kRequest) /
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::vector<Row> measure_machine(const std::vector<int>& threads, Isa most, Index runs, const Poll& poll) {
  const ReadTarget memory(ReadTarget::kSmallest);
  std::vector<Row> rows;
  for (const int count : threads) {
    Context ctx(count);
    LimitMeter meter(ctx, memory, loops_up_to(most));
    for (Index run = 0; run < runs; ++run) {
      poll();
      meter.sample();
    }
    for (const Loop& loop : meter.loops()) {
      const Spread s = meter.spread(loop);
      rows.push_back({.name = fmt::format("{} threads={}", loop.name(), count),
                      .unit = loop.unit(),
                      .value = {s.median * 1e-9, s.lower_quartile * 1e-9, s.upper_quartile * 1e-9, s.runs}});
    }
  }
  return rows;
}

std::vector<Row> measure_disk(const std::filesystem::path& file, const std::vector<int>& threads, Index runs,
                              const Poll& poll) {
  if (file.empty()) return measure_disk(TemporaryFile(poll).path(), threads, runs, poll);
  std::error_code status;
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(file, status));
  HADAL_CHECK(!status, "{}: {}", file.string(), status.message());
  HADAL_CHECK(size >= kRequest, "{}: has {} bytes, at least {} are needed to time a disk", file.string(), size,
              kRequest);
  std::vector<Row> rows;
  for (const int count : threads) {
    Context ctx(count);
    std::vector<double> rates;
    for (Index run = 0; run < runs; ++run) {
      poll();
      rates.push_back(disk_rate(ctx, file, std::min(size, kMostBytes)));
    }
    rows.push_back(rate_row(fmt::format("disk threads={}", count), "GB/s", std::move(rates)));
  }
  return rows;
}

}  // namespace hadal::perf
