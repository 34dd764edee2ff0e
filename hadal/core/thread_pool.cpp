#include "hadal/core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "hadal/core/error.h"

namespace hadal {
namespace {

thread_local int current_thread_id = 0;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

using Clock = std::chrono::steady_clock;

}  // namespace

struct ThreadPool::State {
  // Waits awake for what mostly comes within microseconds, as waking up takes tens of them; but no longer than has paid
  // lately: on a core that others want, or beside a caller that has much to do alone, waiting only costs.
  class Patience {
   public:
    // Until it is true, or patience is at its end: then false, and came() is to be told how that went on.
    template <class Condition>
    bool wait(const Condition& is_true) {
      if (is_true()) return true;
      start_ = Clock::now();
      do {
        for (int i = 0; i < 16; ++i) {
          if (is_true()) return true;
          relax();
        }
      } while (Clock::now() - start_ < span_);
      return false;
    }

    // It became true then, whenever the thread woke up.
    void came(Clock::time_point when) {
      span_ = when - start_ < kLongest ? std::min(2 * span_, kLongest) : std::max(span_ / 2, kShortest);
    }

   private:
    static constexpr Clock::duration kShortest = std::chrono::microseconds(2), kLongest = std::chrono::microseconds(64);
    Clock::duration span_ = kLongest;
    Clock::time_point start_;
  };

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

  // The number of the latest job; whether threads may still join it; how many workers have and have not left. One that
  // comes when all pieces are taken is not waited for: it may have no core for a long time.
  static constexpr std::uint64_t kOpen = std::uint64_t{1} << 16, kNext = kOpen << 1;
  static std::uint64_t number(std::uint64_t board) { return board / kNext; }
  static std::uint64_t inside(std::uint64_t board) { return board % kOpen; }

  Job job;  // written while nobody is inside
  std::vector<Share> shares;
  std::atomic<std::uint64_t> board{0};
  std::atomic<int> sleeping{0};
  std::atomic<Clock::time_point> opened{}, left{};  // when somebody was woken up last
  Patience caller;
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

  // For a job after the one with that number. False: there will be none.
  bool wait_for_job_after(std::uint64_t seen, Patience& patience) {
    const auto something = [&] {
      return number(board.load(std::memory_order_seq_cst)) != seen || stop.load(std::memory_order_relaxed);
    };
    if (!patience.wait(something)) {
      std::unique_lock lock(mutex);
      sleeping.fetch_add(1, std::memory_order_seq_cst);
      wake.wait(lock, something);
      sleeping.fetch_sub(1, std::memory_order_relaxed);
      patience.came(opened.load(std::memory_order_relaxed));
    }
    return !stop.load();
  }

  // The latest job, if it is open; its number either way.
  bool join(std::uint64_t& seen) {
    std::uint64_t b = board.load(std::memory_order_acquire);
    bool joined = false;
    while ((b & kOpen) != 0 && !joined)
      joined = board.compare_exchange_weak(b, b + 1, std::memory_order_acq_rel, std::memory_order_acquire);
    seen = number(b);
    return joined;
  }

  void leave() {
    const std::uint64_t b = board.fetch_sub(1, std::memory_order_acq_rel);
    if (inside(b) > 1 || (b & kOpen) != 0) return;
    left.store(Clock::now(), std::memory_order_relaxed);
    const std::lock_guard lock(mutex);
    done.notify_one();
  }

  void worker(int thread) {
    std::uint64_t seen = 0;
    Patience patience;
    while (wait_for_job_after(seen, patience))
      if (join(seen)) {
        run_pieces(thread);
        leave();
      }
  }

  // Nobody is inside.
  void open() {
    board.store((number(board.load(std::memory_order_relaxed)) + 1) * kNext | kOpen, std::memory_order_seq_cst);
    // Workers that are awake need no system call.
    if (sleeping.load(std::memory_order_seq_cst) == 0) return;
    opened.store(Clock::now(), std::memory_order_relaxed);
    {
      const std::lock_guard lock(mutex);
    }
    wake.notify_all();
  }

  void close() {
    if (inside(board.fetch_and(~kOpen, std::memory_order_acq_rel)) == 0) return;
    const auto empty = [&] { return inside(board.load(std::memory_order_acquire)) == 0; };
    if (caller.wait(empty)) return;
    std::unique_lock lock(mutex);
    done.wait(lock, empty);
    caller.came(left.load(std::memory_order_relaxed));
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
  s.open();
  s.run_pieces(0);
  s.close();
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace hadal
