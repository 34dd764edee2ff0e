#include "hadal/serve/idle_work.h"

#include <utility>

#include "hadal/core/log.h"

namespace hadal::serve {

IdleWork::IdleWork(EngineLoop& loop, IdleWorkOptions options)
    : loop_(loop), options_(options), thread_([this](const std::stop_token& stop) { run(stop); }) {}

IdleWork::~IdleWork() = default;

void IdleWork::add(Job job) {
  const std::lock_guard lock(mutex_);
  put(++last_number_, std::move(job));
  added_.notify_one();
}

void IdleWork::put(std::uint64_t number, Job job) {
  bytes_ += job.bytes;
  jobs_.emplace(number, std::move(job));
  while (jobs_.size() > options_.most_jobs || bytes_ > options_.most_bytes) {
    bytes_ -= jobs_.begin()->second.bytes;
    jobs_.erase(jobs_.begin());
  }
}

bool IdleWork::wait_for_job(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  return added_.wait(lock, stop, [this] { return !jobs_.empty(); });
}

void IdleWork::run(const std::stop_token& stop) {
  while (wait_for_job(stop) && loop_.wait_until_idle(stop)) take_up_latest(stop);
}

void IdleWork::take_up_latest(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (jobs_.empty()) return;
  auto [number, job] = std::move(*std::prev(jobs_.end()));
  jobs_.erase(std::prev(jobs_.end()));
  bytes_ -= job.bytes;
  lock.unlock();
  try {
    Prefill prefill = job.make();
    if (prefill.prompt.empty() || compute(std::move(prefill), stop)) return;
  } catch (const std::exception& e) {
    log_info("nothing is computed ahead of the next turn: {}", e.what());
    return;
  }
  // What was done of it is kept in the cache.
  if (++job.tries >= options_.most_tries) return;
  lock.lock();
  put(number, std::move(job));
}

// False: somebody asked for something meanwhile.
bool IdleWork::compute(Prefill prefill, const std::stop_token& stop) {
  struct Ended {
    std::mutex mutex;
    std::condition_variable_any changed;
    bool now = false;
  };
  // The channel may outlive this.
  const auto ended = std::make_shared<Ended>();
  const auto channel = loop_.prefill(std::move(prefill), [ended] {
    const std::lock_guard lock(ended->mutex);
    ended->now = true;
    ended->changed.notify_all();
  });
  std::unique_lock lock(ended->mutex);
  // Nothing but its end wakes it.
  if (!ended->changed.wait(lock, stop, [&] { return ended->now; })) {
    lock.unlock();  // the loop wakes with locks of its own held
    loop_.end(channel, infer::FinishReason::kCancelled);
    return true;
  }
  const Received received = channel->take();
  return !received.completion || received.completion->finish_reason != infer::FinishReason::kCancelled;
}

}  // namespace hadal::serve
