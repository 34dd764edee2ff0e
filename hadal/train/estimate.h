// What a run takes, said before it begins.
#pragma once

#include <string>
#include <vector>

#include "hadal/train/run_schedule.h"

namespace hadal::train {

struct RunEstimate {
  struct Item {
    std::string what;
    std::uint64_t bytes;
  };
  std::vector<Item> memory;
  std::uint64_t parameters = 0, active_parameters = 0;
  double flops_per_token = 0, flops_per_step = 0, flops = 0;  // of the run's longest sequences; of all its tokens
  std::uint64_t bytes() const;
};

// From the shapes alone. Memory is the peak of what is resident: within 10 % (a test).
RunEstimate estimate_run(const TrainConfig& config);

// Throws for a run that needs more memory than is free.
void check_memory(const RunEstimate& estimate);

// With `fma_rate`, the machine's multiply-adds in operations a second, the time at half of it.
std::string describe_estimate(const TrainConfig& config, const RunEstimate& estimate, double fma_rate);

}  // namespace hadal::train
