#include "hadal/core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "hadal/core/error.h"

namespace hadal {
namespace {

// Long enough to bridge the gap between two operations of a layer, short enough not to burn a shared core.
constexpr int kSpins = 2000;

thread_local int current_thread_id = 0;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
  struct Job {
    const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
    std::int64_t n = 0;
    std::int64_t grain = 1;
  };

  Job job;
  std::atomic<std::int64_t> next{0};
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> running{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake, done;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void run_pieces() {
    for (;;) {
      const std::int64_t begin = next.fetch_add(job.grain, std::memory_order_relaxed);
      if (begin >= job.n) return;
      try {
        (*job.body)(begin, std::min(job.n, begin + job.grain));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(job.n, std::memory_order_relaxed);
      }
    }
  }

  void wait_for_generation_after(std::uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      if (generation.load(std::memory_order_acquire) != seen || stop.load(std::memory_order_relaxed)) return;
      relax();
    }
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen || stop.load(); });
  }

  void worker() {
    std::uint64_t seen = 0;
    for (;;) {
      wait_for_generation_after(seen);
      if (stop.load()) return;
      seen = generation.load(std::memory_order_acquire);
      run_pieces();
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard lock(mutex);
        done.notify_one();
      }
    }
  }

  void wait_for_workers() {
    for (int i = 0; i < kSpins; ++i) {
      if (running.load(std::memory_order_acquire) == 0) return;
      relax();
    }
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return running.load(std::memory_order_acquire) == 0; });
  }
};

int ThreadPool::available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  HADAL_CHECK(num_threads >= 0 && num_threads <= 1024, "threads: {} is not between 0 and 1024", num_threads);
  const int total = num_threads == 0 ? available_cores() : num_threads;
  for (int i = 1; i < total; ++i)
    state_->workers.emplace_back([s = state_.get(), i] {
      current_thread_id = i;
      s->worker();
    });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop.store(true);
  }
  state_->wake.notify_all();
  for (auto& thread : state_->workers) thread.join();
}

int ThreadPool::current_thread() {
  return current_thread_id;
}

int ThreadPool::num_threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  if (state_->workers.empty() || n <= grain) {
    for (std::int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain));
    return;
  }
  State& s = *state_;
  {
    const std::lock_guard lock(s.mutex);
    s.job = {&body, n, grain};
    s.error = nullptr;
    s.next.store(0, std::memory_order_relaxed);
    s.running.store(static_cast<int>(s.workers.size()), std::memory_order_relaxed);
    s.generation.fetch_add(1, std::memory_order_release);
  }
  s.wake.notify_all();
  s.run_pieces();
  s.wait_for_workers();
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace hadal
