#include "hadal/io/async_reader.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "hadal/core/error.h"

namespace hadal::io {
namespace {

constexpr int kMostInFlight = 32;
// Few, so that an urgent read that comes later waits little.
constexpr int kMostBackground = 8;

}  // namespace

struct AsyncReader::State {
  struct File {
    std::string path;
    FileIdentity identity;
    int direct = -1, buffered = -1;  // one of them is open; direct becomes buffered at its first refusal
  };

  struct Job {
    AsyncReader::Read read;
    bool urgent = false;
    std::uint64_t done = 0;  // bytes so far
    bool buffered = false;   // how the system call in progress reads
    std::string fault;
  };

  Backend backend = Backend::kThreads;
  mutable std::mutex mutex;
  std::condition_variable work, came;
  std::deque<File> files;
  std::deque<Job> urgent, background;
  std::list<Job> running;
  std::deque<Result> results;
  int background_running = 0;
  bool stop = false;
  io_uring ring{};
  std::vector<std::thread> threads;

  // All of the following hold the mutex, unless they say otherwise.

  bool can_start() const {
    if (static_cast<int>(running.size()) >= kMostInFlight) return false;
    return !urgent.empty() || (!background.empty() && background_running < kMostBackground);
  }

  std::list<Job>::iterator start() {
    std::deque<Job>& from = urgent.empty() ? background : urgent;
    running.push_back(std::move(from.front()));
    from.pop_front();
    if (!running.back().urgent) ++background_running;
    return std::prev(running.end());
  }

  void finish(std::list<Job>::iterator job) {
    if (!job->urgent) --background_running;
    results.push_back({job->read, job->done, std::move(job->fault)});
    running.erase(job);
    came.notify_all();
  }

  int fd_of(Job& job) {
    File& file = files[static_cast<std::size_t>(job.read.file)];
    job.buffered = file.direct < 0;
    return job.buffered ? file.buffered : file.direct;
  }

  // What a system call's result (bytes or -errno) means: true if the job is over, false if it goes on.
  bool settle(Job& job, std::int64_t result) {
    File& file = files[static_cast<std::size_t>(job.read.file)];
    if (result == -EINTR || result == -EAGAIN) return false;
    if (result == -EINVAL && !job.buffered) {
      if (file.direct >= 0) give_up_direct(file);  // otherwise another read did
      return false;
    }
    if (result < 0) {
      job.fault = std::strerror(static_cast<int>(-result));
      return true;
    }
    job.done += static_cast<std::uint64_t>(result);
    if (job.buffered && result > 0)
      ::posix_fadvise(file.buffered, static_cast<off_t>(job.read.offset), static_cast<off_t>(job.read.bytes),
                      POSIX_FADV_DONTNEED);
    if (job.done >= job.read.needed) return true;
    // A direct read stops inside a block only at the end of the file.
    if (result > 0 && job.done % kAlignment == 0) return false;
    if (result > 0 && job.buffered) return false;
    job.fault = fmt::format("the file ends at byte {}", job.read.offset + job.done);
    return true;
  }

  // The descriptor stays the same: other reads may be using it.
  static void give_up_direct(File& file) {
    file.buffered = std::exchange(file.direct, -1);
    ::fcntl(file.buffered, F_SETFL, ::fcntl(file.buffered, F_GETFL) & ~O_DIRECT);
  }

  void run_preads() {
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stop || can_start(); });
      if (stop) return;
      const auto job = start();
      for (bool over = false; !over;) {
        const int fd = fd_of(*job);
        const AsyncReader::Read& r = job->read;
        lock.unlock();
        const ssize_t n = ::pread(fd, r.to + job->done, r.bytes - job->done, static_cast<off_t>(r.offset + job->done));
        const std::int64_t result = n < 0 ? -errno : n;
        lock.lock();
        over = settle(*job, result);
      }
      finish(job);
    }
  }

  // Both queues of the ring are as long as jobs can be in flight, and one place is kept for the end, so there is always
  // a free entry.
  void enter(Job& job) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    const AsyncReader::Read& r = job.read;
    io_uring_prep_read(entry, fd_of(job), r.to + job.done, static_cast<unsigned>(r.bytes - job.done),
                       r.offset + job.done);
    io_uring_sqe_set_data(entry, &job);
  }

  void flush_ring() {
    for (;;) {
      const int n = io_uring_submit(&ring);
      if (n >= 0 || (n != -EINTR && n != -EAGAIN && n != -EBUSY)) return;
      std::this_thread::yield();
    }
  }

  void fill_ring() {
    bool any = false;
    for (; !stop && can_start(); any = true) enter(*start());
    if (any) flush_ring();
  }

  void run_ring() {
    for (;;) {
      io_uring_cqe* done = nullptr;
      if (io_uring_wait_cqe(&ring, &done) != 0) continue;  // interrupted
      const std::lock_guard lock(mutex);
      auto* job = static_cast<Job*>(io_uring_cqe_get_data(done));
      const std::int64_t result = done->res;
      io_uring_cqe_seen(&ring, done);
      if (job) {
        if (settle(*job, result)) {
          finish(std::find_if(running.begin(), running.end(), [&](const Job& j) { return &j == job; }));
        } else {
          enter(*job);
          flush_ring();
        }
        fill_ring();
      }
      if (stop && running.empty()) return;
    }
  }

  // No lock needed: nothing runs yet.
  bool open_ring() {
    if (io_uring_queue_init(2 * kMostInFlight, &ring, 0) != 0) return false;
    io_uring_probe* probe = io_uring_get_probe_ring(&ring);
    const bool able = probe && io_uring_opcode_supported(probe, IORING_OP_READ);
    io_uring_free_probe(probe);
    if (!able) io_uring_queue_exit(&ring);
    return able;
  }

  void end() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
      urgent.clear();
      background.clear();
      if (backend == Backend::kIoUring) {
        io_uring_sqe* entry = io_uring_get_sqe(&ring);
        io_uring_prep_nop(entry);
        io_uring_sqe_set_data(entry, nullptr);
        flush_ring();
      }
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
    if (backend == Backend::kIoUring) io_uring_queue_exit(&ring);
    for (const File& file : files)
      for (const int fd : {file.direct, file.buffered})
        if (fd >= 0) ::close(fd);
  }
};

AsyncReader::AsyncReader(Backend backend) : state_(std::make_unique<State>()) {
  State& s = *state_;
  const bool ring = backend != Backend::kThreads && s.open_ring();
  HADAL_CHECK(ring || backend != Backend::kIoUring, "io_uring: this kernel does not have it or does not allow it");
  s.backend = ring ? Backend::kIoUring : Backend::kThreads;
  if (ring)
    s.threads.emplace_back([&s] { s.run_ring(); });
  else
    for (int i = 0; i < kPreadThreads; ++i) s.threads.emplace_back([&s] { s.run_preads(); });
}

AsyncReader::~AsyncReader() {
  state_->end();
}

AsyncReader::Backend AsyncReader::backend() const {
  return state_->backend;
}

int AsyncReader::open(const std::filesystem::path& path, const FileIdentity& expected) {
  State::File file{.path = path.string(), .identity = expected};
  file.direct = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (file.direct < 0) file.buffered = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int fd = file.direct >= 0 ? file.direct : file.buffered;
  HADAL_CHECK(fd >= 0, "{}: cannot be opened: {}", file.path, std::strerror(errno));
  if (FileIdentity::of(fd) != expected) {
    ::close(fd);
    fail("{}: changed while it was being opened; start again", file.path);
  }
  const std::lock_guard lock(state_->mutex);
  state_->files.push_back(std::move(file));
  return static_cast<int>(state_->files.size()) - 1;
}

bool AsyncReader::changed(int file) const {
  const std::lock_guard lock(state_->mutex);
  const State::File& f = state_->files[static_cast<std::size_t>(file)];
  return FileIdentity::of(f.direct >= 0 ? f.direct : f.buffered) != f.identity;
}

bool AsyncReader::direct(int file) const {
  const std::lock_guard lock(state_->mutex);
  return state_->files[static_cast<std::size_t>(file)].direct >= 0;
}

void AsyncReader::submit(const Read& read, bool urgent) {
  HADAL_CHECK(read.offset % kAlignment == 0 && read.bytes % kAlignment == 0 && read.bytes > 0 &&
                  reinterpret_cast<std::uintptr_t>(read.to) % kAlignment == 0 && read.needed <= read.bytes,
              "async reader: a read of {} bytes at {} is not aligned", read.bytes, read.offset);
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  (urgent ? s.urgent : s.background).push_back({.read = read, .urgent = urgent, .fault = {}});
  if (s.backend == Backend::kIoUring)
    s.fill_ring();
  else
    s.work.notify_one();
}

void AsyncReader::hasten(std::uint64_t tag) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  for (State::Job& job : s.background)
    if (job.read.tag == tag) s.urgent.push_back(job), s.urgent.back().urgent = true;
  std::erase_if(s.background, [&](const State::Job& job) { return job.read.tag == tag; });
  if (s.backend == Backend::kIoUring)
    s.fill_ring();
  else
    s.work.notify_all();
}

std::size_t AsyncReader::cancel(std::uint64_t tag) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto with_tag = [&](const State::Job& job) { return job.read.tag == tag; };
  return std::erase_if(s.background, with_tag) + std::erase_if(s.urgent, with_tag);
}

std::size_t AsyncReader::outstanding() const {
  const State& s = *state_;
  const std::lock_guard lock(s.mutex);
  return s.urgent.size() + s.background.size() + s.running.size() + s.results.size();
}

std::optional<AsyncReader::Result> AsyncReader::poll() {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (s.results.empty()) return std::nullopt;
  Result result = std::move(s.results.front());
  s.results.pop_front();
  return result;
}

AsyncReader::Result AsyncReader::wait() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.came.wait(lock, [&] { return !s.results.empty(); });
  Result result = std::move(s.results.front());
  s.results.pop_front();
  return result;
}

}  // namespace hadal::io
