// Optimisers. A step is: gradient_norm, step() with clip_factor of it, then what follows load and scores instead of
// gradients (step_routing_bias; clip_queries_and_keys of muon.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hadal/train/objective.h"
#include "hadal/train/parameters.h"

namespace hadal::train {

// AdamW with decoupled weight decay (arXiv 1711.05101) as the report uses it (section 4.2): decay for matrices, none
// for gains (weights::decay_group).
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
};

// See muon.h.
struct MuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.1;
  int newton_schulz_steps = 5;
};

enum class OptimizerKind { kAdamW, kMuon };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  AdamWOptions adamw;  // with kMuon: of what Muon is not for
  MuonOptions muon;
  DType moments = DType::kF32;  // or BF16, rounded to nearest even at each step, or F64 for parameters in F64
};

// The parameters given to its functions are always those that it was made for.
class Optimizer {
 public:
  using Visitor = std::function<void(const std::string& name, const TensorRef& state)>;

  virtual ~Optimizer() = default;
  // With gradient_factor times the gradients, which stay as they are.
  virtual void step(Context& ctx, Parameters& parameters, double learning_rate, double gradient_factor = 1) = 0;
  // All state beside steps(), to be saved and restored in place: "first.<parameter>" and so on. F32, BF16 or F64.
  virtual void for_each_state(const Visitor& f) const = 0;
  virtual Index steps() const = 0;  // so far
  virtual void set_steps(Index steps) = 0;

  std::uint64_t bytes() const;  // of state
};

std::unique_ptr<Optimizer> make_optimizer(const Parameters& parameters, const OptimizerOptions& options);

// The root of the sum of all gradients' squares, summed in double in one order.
double gradient_norm(Context& ctx, const Parameters& parameters);
// What gradients of norm `norm` are to be multiplied by so that it is at most `most`.
double clip_factor(double norm, double most);

// State for each parameter that has a gradient and is `chosen`: "first.<parameter>" and "second.<parameter>".
class AdamW : public Optimizer {
 public:
  AdamW(const Parameters& parameters, const AdamWOptions& options, DType moments,
        const std::function<bool(const Parameter&)>& chosen = {});
  void step(Context& ctx, Parameters& parameters, double learning_rate, double gradient_factor = 1) override;
  void for_each_state(const Visitor& f) const override;
  Index steps() const override { return steps_; }
  void set_steps(Index steps) override { steps_ = steps; }

 private:
  struct Moments {
    std::size_t parameter;
    std::string name;
    Tensor first, second;
  };
  AdamWOptions options_;
  std::vector<Moments> moments_;
  Index steps_ = 0;
};

// bias += gamma * sign(mean - count) for every expert of every MoE layer (report, section 2.1.2); `counts` in the order
// of Losses.
void step_routing_bias(Parameters& parameters, const std::vector<std::vector<Index>>& counts, double gamma);

}  // namespace hadal::train
