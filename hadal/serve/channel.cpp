#include "hadal/serve/channel.h"

#include <utility>

namespace hadal::serve {

bool Channel::push(infer::Sample sample) {
  std::unique_lock lock(mutex_);
  if (ended_) return true;
  bytes_ += sizeof(sample) + sample.top.size() * sizeof(infer::TokenLogprob);
  if (bytes_ > most_bytes_) return false;
  waiting_.samples.push_back(std::move(sample));
  wake_up(std::move(lock));
  return true;
}

void Channel::finish(infer::Completion completion) {
  std::unique_lock lock(mutex_);
  if (std::exchange(ended_, true)) return;
  waiting_.completion = std::move(completion);
  wake_up(std::move(lock));
}

void Channel::fail(Failure failure) {
  std::unique_lock lock(mutex_);
  if (std::exchange(ended_, true)) return;
  waiting_.failure = std::move(failure);
  wake_up(std::move(lock));
}

void Channel::wake_up(std::unique_lock<std::mutex> lock) {
  if (std::exchange(woken_, true)) return;
  lock.unlock();
  if (wake_) wake_();
}

Received Channel::take() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  bytes_ = 0;
  return std::exchange(waiting_, {});
}

}  // namespace hadal::serve
