// Which losses are spikes: those that are not finite, and those far above the ones before.
#pragma once

#include <vector>

#include "hadal/core/view.h"

namespace hadal::train {

struct SpikeRule {
  double z_score = 8;  // 0: only what is not finite
  Index window = 100;  // losses that are compared with; at least half of them, before anything is a spike
};

bool is_spike(const SpikeRule& rule, const std::vector<double>& before, double loss, double grad_norm);
// Adds a loss that was none.
void remember_loss(const SpikeRule& rule, std::vector<double>& before, double loss);

}  // namespace hadal::train
