// A persistent pool of worker threads. Work is cut into pieces; each thread begins with a contiguous share of them, in
// ascending order (so that it reads memory as a stream), and then takes over what others have left. Which thread does a
// piece never influences its result, because every output element is computed by exactly one piece.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace hadal {

class ThreadPool {
 public:
  // 0 means one thread per core that this process may use. The calling thread is one of them.
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Calls body(begin, end) for disjoint ranges that cover [0, n), each at most `grain` long, and returns when all are
  // done. An exception of body is rethrown here (the first one). Not reentrant: body must not call parallel_for, and
  // only one thread may call it at a time.
  void parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

  // Which of the pool's threads is running: 0 for the caller, 1.. for workers. For per-thread scratch inside a body.
  static int current_thread();

  // Where the share of pieces that `thread` starts with begins; that of the thread after it is its end.
  static std::int64_t share_begin(std::int64_t pieces, std::int64_t threads, std::int64_t thread) {
    return pieces * thread / threads;
  }

  static int available_cores();  // respects the process's affinity mask

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hadal
