// An engine of its own thread: requests go in from any thread, what is sampled comes out through their channels. Nobody
// who reads can hold it up.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "hadal/infer/engine.h"
#include "hadal/serve/channel.h"
#include "hadal/serve/metrics.h"

namespace hadal::serve {

struct EngineLoopOptions {
  std::size_t most_unfinished = 4096;              // requests that run or wait
  std::size_t most_unread = std::size_t{4} << 20;  // bytes of samples that a reader may leave lying
};

class EngineLoop {
 public:
  // Keeps references. No other thread may use the engine from here on.
  EngineLoop(infer::Engine& engine, Metrics& metrics, EngineLoopOptions options = {});
  ~EngineLoop();  // stops
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // What the engine refuses, or there is no room for, is a failure in the channel.
  std::shared_ptr<Channel> submit(infer::Request request, Wake wake = {});
  // A prompt that is computed as long as nobody asks for anything: Engine::prefill. Its channel has a completion, which
  // is cancelled if somebody did, or a failure.
  struct Prefill {
    std::vector<config::TokenId> prompt;
    std::string cache_salt = {};
    infer::CacheReuse reuse = infer::CacheReuse::kSameBits;
  };
  std::shared_ptr<Channel> prefill(Prefill prefill, Wake wake = {});
  // Waits until nobody asks for anything. False: that will not be any more.
  bool wait_until_idle(const std::stop_token& stop);
  // Ends it within a step, if it has not ended; whatever else it says is lost if the reason is kCancelled.
  void end(const std::shared_ptr<Channel>& channel, infer::FinishReason reason);

  // Ends everything at once and waits for that; of one thread alone. A pass that runs ends at the next layer, if the
  // engine's context asks stopping() there.
  void stop();
  bool stopping() const { return stopping_; }

 private:
  struct Command {
    std::shared_ptr<Channel> channel;
    std::optional<infer::Request> request = {};  // or
    std::optional<Prefill> prefill = {};         // or neither: to be ended
    infer::FinishReason reason = infer::FinishReason::kCancelled;
  };
  using Open = std::map<infer::RequestId, std::shared_ptr<Channel>>;

  void run();
  std::vector<Command> next_commands();
  void obey(Command& command);
  void begin(Command& command);
  void one_less();
  bool add(Command command);
  void step();
  void deliver(std::vector<infer::TokenEvent> events);
  void take_ended();
  void fail_all(const Failure& failure);
  void close(Open::iterator it);

  infer::Engine& engine_;
  Metrics& metrics_;
  EngineLoopOptions options_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable_any idle_;
  std::vector<Command> commands_;
  Open open_;                                         // of the engine's thread
  std::map<const Channel*, infer::RequestId> id_of_;  // of those
  std::atomic<bool> stopping_ = false;
  std::atomic<Index> unfinished_ = 0;  // but for prefills
  Index prefills_ = 0;                 // in the engine
  std::thread thread_;
};

}  // namespace hadal::serve
