// A thread that makes the masks of constrained answers while the pass runs whose logits they are for.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hadal::infer {

// One caller. The thread begins with the first work, so that whoever has no constraints has no thread.
class MaskMaker {
 public:
  MaskMaker() = default;
  ~MaskMaker();
  MaskMaker(const MaskMaker&) = delete;
  MaskMaker& operator=(const MaskMaker&) = delete;

  // Jobs, which must not throw, are done one after the other. What they touch is theirs until wait() has returned.
  void begin(std::vector<std::function<void()>> jobs);
  void wait();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void()>> jobs_;
  bool busy_ = false, over_ = false;
  std::thread thread_;
};

}  // namespace hadal::infer
