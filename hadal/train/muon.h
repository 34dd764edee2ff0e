// Muon as Moonlight and Kimi K2 use it (arXiv 2502.16982, 2507.20534). The update of a matrix is its momentum, made
// orthogonal by five steps of Newton and Schulz; scaled by 0.2 sqrt(max(rows, columns)), so that its root mean square
// is about AdamW's and both take the same learning rate; weight decay is decoupled. Every matrix is one as it is
// stored: kv_a_proj_with_mqa and the heads of q_b_proj and kv_b_proj are not taken apart.
//
// As in Moonlight's code it is for every matrix inside the layers, the router and eh_proj among them; embedding, head
// and gains are AdamW's. (An orthogonal update of the router moves all experts' rows alike, which is what it should
// do.)
#pragma once

#include "hadal/config/config.h"
#include "hadal/train/optimizer.h"

namespace hadal::train {

// State: "momentum.<parameter>", and AdamW's of the rest.
class Muon : public Optimizer {
 public:
  Muon(const Parameters& parameters, const MuonOptions& options, const AdamWOptions& rest, DType moments);
  void step(Context& ctx, Parameters& parameters, double learning_rate, double gradient_factor = 1) override;
  void for_each_state(const Visitor& f) const override;
  Index steps() const override { return rest_.steps(); }
  void set_steps(Index steps) override { rest_.set_steps(steps); }

  static bool is_for(const weights::ParamInfo& parameter);
  // What a step takes of the workspace, at most: matrices that are made orthogonal together.
  static constexpr std::uint64_t kUpdateBytes = std::uint64_t{32} << 20;

 private:
  struct Momentum {
    std::size_t parameter;
    std::string name;
    Tensor value;
  };
  void step_some(Context& ctx, std::span<const Momentum> some, Parameters& parameters, double learning_rate,
                 double gradient_factor);

  MuonOptions options_;
  std::vector<Momentum> momenta_;
  AdamW rest_;
};

// QK-clip (Kimi K2 report, section 2.1): a head whose largest score of the step was above `most` gets a query and a key
// that would have made it `most`: with gamma = most / largest, the parts without position, from q_b_proj (or q_proj)
// and kv_b_proj, are each multiplied by sqrt(gamma), the query's rotated part by gamma; the rotated key is all heads'.
// `largest_scores` as in Losses. Returns how many heads that were. K2: 100.
Index clip_queries_and_keys(Parameters& parameters, const config::Config& config,
                            const std::vector<std::vector<double>>& largest_scores, double most);

}  // namespace hadal::train
