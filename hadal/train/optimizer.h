// AdamW with decoupled weight decay (arXiv 1711.05101) as the report uses it (section 4.2): decay for matrices, none for
// gains; the clipping of the global norm before it; and the step of the routing bias after it (section 2.1.2).
#pragma once

#include <vector>

#include "hadal/train/objective.h"
#include "hadal/train/parameters.h"

namespace hadal::train {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
};

// The root of the sum of all gradients' squares, summed in double in one order.
double gradient_norm(Context& ctx, const Parameters& parameters);
// Scales all gradients so that their norm, which is `norm`, is at most `most`.
void clip_gradients(Context& ctx, Parameters& parameters, double norm, double most);

class AdamW {
 public:
  // Moments of `moments`: F32, BF16, or F64 for parameters in F64.
  AdamW(const Parameters& parameters, const AdamWOptions& options, DType moments);
  void step(Context& ctx, Parameters& parameters, double learning_rate);

  Index steps() const { return steps_; }
  std::uint64_t bytes() const;

 private:
  struct Moments {
    Tensor first, second;
  };
  AdamWOptions options_;
  std::vector<Moments> moments_;
  Index steps_ = 0;
};

// bias += gamma * sign(mean - count) for every expert of every MoE layer; `counts` in the order of Losses.
void step_routing_bias(Parameters& parameters, const std::vector<std::vector<Index>>& counts, double gamma);

}  // namespace hadal::train
