// The loop of `hadal train`: from a configuration to a trained model, resumed where it was if it was interrupted. What
// comes out is a function of configuration and data alone: not of threads, nor of where a run was killed.
#pragma once

#include <filesystem>
#include <string>

#include "hadal/core/numerics.h"
#include "hadal/train/run_log.h"
#include "hadal/train/run_schedule.h"

namespace hadal::train {

struct RunProgress {
  Index total_steps = 0;
  std::uint64_t total_tokens = 0;
  double seconds_left = 0;
};

// Who watches a run. Its members are called by the thread that trains.
class TrainWatcher {
 public:
  virtual ~TrainWatcher() = default;
  virtual bool interrupted() { return false; }
  virtual void say(const std::string& /*sentence*/) {}
  virtual void step(const StepRecord& /*record*/, const RunProgress& /*progress*/) {}
  virtual void validation(const ValidationRecord& /*record*/) {}
  virtual void sample(const SampleRecord& /*record*/) {}
  // While a data set is made of text.
  virtual void building(std::uint64_t /*done*/, std::uint64_t /*total*/) {}
};

struct TrainOptions {
  bool resume = true;     // from the newest checkpoint that is whole; otherwise the run must be new
  double fma_rate = 0;    // operations a second of the machine's multiply-adds, on as many threads; 0: not known
  Isa isa = best_isa();
};

// Returns the directory of the final model. Throws Interrupted once the watcher is interrupted and the run saved, and
// Error: the newest checkpoint is untouched then.
std::filesystem::path train(const TrainConfig& config, const TrainOptions& options, TrainWatcher& watcher);

}  // namespace hadal::train
