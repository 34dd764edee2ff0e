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
constexpr int kSpins = 4000;

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
  // The pieces that one thread starts with, each on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
    std::int64_t left() const { return end - next.load(std::memory_order_relaxed); }
  };

  Job job;
  std::vector<Share> shares;
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> running{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake, done;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  explicit State(std::size_t threads) : shares(threads) {}

  void deal(std::int64_t pieces) {
    const auto threads = static_cast<std::int64_t>(shares.size());
    for (std::int64_t t = 0; t < threads; ++t) {
      Share& share = shares[static_cast<std::size_t>(t)];
      share.next.store(share_begin(pieces, threads, t), std::memory_order_relaxed);
      share.end = share_begin(pieces, threads, t + 1);
    }
  }

  // Runs pieces of a share until it is empty.
  void empty(Share& share) {
    for (;;) {
      const std::int64_t piece = share.next.fetch_add(1, std::memory_order_relaxed);
      if (piece >= share.end) return;
      try {
        const std::int64_t begin = piece * job.grain;
        (*job.body)(begin, std::min(job.n, begin + job.grain));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        for (Share& s : shares) s.next.store(s.end, std::memory_order_relaxed);
      }
    }
  }

  void run_pieces(int thread) {
    empty(shares[static_cast<std::size_t>(thread)]);
    // One piece at a time from whoever has most left.
    for (;;) {
      Share* most = &shares[0];
      for (Share& share : shares)
        if (share.left() > most->left()) most = &share;
      if (most->left() <= 0) return;
      const std::int64_t piece = most->next.fetch_add(1, std::memory_order_relaxed);
      if (piece >= most->end) continue;
      Share one;
      one.next.store(piece, std::memory_order_relaxed);
      one.end = piece + 1;
      empty(one);
    }
  }

  void wait_for_generation_after(std::uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      if (generation.load(std::memory_order_acquire) != seen || stop.load(std::memory_order_relaxed)) return;
      relax();
    }
    std::unique_lock lock(mutex);
    sleeping.fetch_add(1, std::memory_order_seq_cst);
    wake.wait(lock, [&] { return generation.load(std::memory_order_seq_cst) != seen || stop.load(); });
    sleeping.fetch_sub(1, std::memory_order_relaxed);
  }

  void worker(int thread) {
    std::uint64_t seen = 0;
    for (;;) {
      wait_for_generation_after(seen);
      if (stop.load()) return;
      seen = generation.load(std::memory_order_acquire);
      run_pieces(thread);
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

ThreadPool::ThreadPool(int num_threads) {
  HADAL_CHECK(num_threads >= 0 && num_threads <= 1024, "threads: {} is not between 0 and 1024", num_threads);
  const int total = num_threads == 0 ? available_cores() : num_threads;
  state_ = std::make_unique<State>(static_cast<std::size_t>(total));
  for (int i = 1; i < total; ++i)
    state_->workers.emplace_back([s = state_.get(), i] {
      current_thread_id = i;
      s->worker(i);
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
  s.job = {&body, n, grain};
  s.error = nullptr;
  s.deal((n + grain - 1) / grain);
  s.running.store(static_cast<int>(s.workers.size()), std::memory_order_relaxed);
  s.generation.fetch_add(1, std::memory_order_seq_cst);
  // Workers that still spin need no system call.
  if (s.sleeping.load(std::memory_order_seq_cst) > 0) {
    const std::lock_guard lock(s.mutex);
    s.wake.notify_all();
  }
  s.run_pieces(0);
  s.wait_for_workers();
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace hadal
