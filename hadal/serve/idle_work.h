// What the engine does while nobody asks for anything: prompts that are likely to be asked for next.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "hadal/serve/engine_loop.h"

namespace hadal::serve {

struct IdleWorkOptions {
  std::size_t most_jobs = 64;
  std::size_t most_bytes = std::size_t{32} << 20;
  int most_tries = 4;  // of a job that others interrupt
};

// The latest job first; beyond the limits the oldest ones are forgotten. A thread of its own makes prompts, one at a
// time, when the engine has nothing to do: whoever adds a job does not wait.
class IdleWork {
 public:
  using Prefill = EngineLoop::Prefill;
  struct Job {
    std::function<Prefill()> make;  // on the thread here; no tokens, or an Error: nothing is to be done
    std::size_t bytes = 0;          // of memory that it holds, about
    int tries = 0;
  };

  // Keeps a reference.
  explicit IdleWork(EngineLoop& loop, IdleWorkOptions options = {});
  ~IdleWork();  // stops

  void add(Job job);

 private:
  void run(const std::stop_token& stop);
  void put(std::uint64_t number, Job job);
  bool wait_for_job(const std::stop_token& stop);
  void take_up_latest(const std::stop_token& stop);
  bool compute(Prefill prefill, const std::stop_token& stop);

  EngineLoop& loop_;
  IdleWorkOptions options_;
  std::mutex mutex_;
  std::condition_variable_any added_;
  std::map<std::uint64_t, Job> jobs_;  // in the order in which they came
  std::uint64_t last_number_ = 0;
  std::size_t bytes_ = 0;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace hadal::serve
