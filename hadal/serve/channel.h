// From the engine's thread to the reader of one answer: what was sampled, and how it ended.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "hadal/infer/engine.h"

namespace hadal::serve {

// Called when there is something to take, once until it is taken; from the engine's thread, so it must not take long.
using Wake = std::function<void()>;

// Why there is no answer, or no more of it.
struct Failure {
  enum class Kind { kInvalid, kOverloaded, kServer, kTooSlow, kStopped };
  Kind kind = Kind::kServer;
  std::string message;
};

// Everything since the last time.
struct Received {
  std::vector<infer::Sample> samples;
  std::optional<infer::Completion> completion;  // it has ended: all samples have come
  std::optional<Failure> failure;               // so it has
  bool ended() const { return completion || failure; }
};

class Channel {
 public:
  using Clock = std::chrono::steady_clock;

  // Of samples that nobody takes, as many bytes are kept as `most_bytes`.
  Channel(std::size_t most_bytes, Wake wake) : most_bytes_(most_bytes), wake_(std::move(wake)) {}

  // The engine's side. False if the reader is too far behind.
  bool push(infer::Sample sample);
  void finish(infer::Completion completion);
  void fail(Failure failure);  // unless it has ended

  // The reader's side; thread-safe.
  Received take();

  // For measurements, of the engine's thread alone.
  Clock::time_point submitted = Clock::now(), last_token = {};
  std::size_t tokens = 0;
  bool idle = false;  // nobody waits for it

 private:
  void wake_up(std::unique_lock<std::mutex> lock);

  std::size_t most_bytes_;
  Wake wake_;
  std::mutex mutex_;
  Received waiting_;
  std::size_t bytes_ = 0;
  bool ended_ = false, woken_ = false;
};

}  // namespace hadal::serve
