// How evenly tokens go to the experts of each layer.
#pragma once

#include <string_view>
#include <vector>

#include "hadal/core/observer.h"
#include "hadal/train/parameters.h"
#include "hadal/train/run_log.h"

namespace hadal::train {

// Of each layer with experts, in the order of the layers: tokens that each expert was chosen for.
using ExpertCounts = std::vector<std::vector<Index>>;

// A record for each layer of `counts` (the first layers with experts, those of MTP behind the others), with the range
// that its routing bias has now.
std::vector<LayerLoad> expert_loads(const config::Config& config, const Parameters& parameters,
                                    const ExpertCounts& counts);

// MaxVio as the paper on loss-free balancing has it (2408.15664): the mean of all layers. NaN if there are none.
double mean_max_vio(const std::vector<LayerLoad>& load);

// Counts what the gates choose in the forward passes that it watches.
class ExpertCounter : public Observer {
 public:
  explicit ExpertCounter(const config::Config& config);
  void on_boundary(Index layer) override;
  void on_value(std::string_view name, const ConstTensorRef& value) override;
  const ExpertCounts& counts() const { return counts_; }

 private:
  std::vector<Index> place_;  // of a layer in counts_; -1: it has no experts
  ExpertCounts counts_;
  Index layer_ = -1;
};

}  // namespace hadal::train
