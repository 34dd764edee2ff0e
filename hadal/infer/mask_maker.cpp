#include "hadal/infer/mask_maker.h"

#include <utility>

namespace hadal::infer {

MaskMaker::~MaskMaker() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MaskMaker::begin(std::vector<std::function<void()>> jobs) {
  if (jobs.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    jobs_ = std::move(jobs);
    busy_ = true;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void MaskMaker::wait() {
  if (!thread_.joinable()) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_; });
}

void MaskMaker::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return busy_ || over_; });
    if (!busy_) return;
    std::vector<std::function<void()>> jobs = std::exchange(jobs_, {});
    lock.unlock();
    for (const auto& job : jobs) job();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace hadal::infer
