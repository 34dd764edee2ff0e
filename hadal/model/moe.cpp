#include "hadal/model/moe.h"

namespace hadal::model {

Gate::Gate(const Config& c)
    : n_routed_experts(c.n_routed_experts),
      linear(make_linear(c, c.hidden_size, c.n_routed_experts)),
      has_bias(c.topk_method == TopkMethod::kNoauxTc) {
  rule.num_experts_per_tok = c.num_experts_per_tok;
  rule.n_group = c.topk_method == TopkMethod::kGreedy ? 1 : c.n_group;
  rule.topk_group = c.topk_group;
  rule.group_best = c.topk_method == TopkMethod::kNoauxTc ? 2 : 1;  // rule 22
  rule.sigmoid = c.scoring_func == ScoringFunc::kSigmoid;
  rule.norm_topk_prob = c.norm_topk_prob;
  rule.routed_scaling_factor = c.routed_scaling_factor;
}

ops::Selection Gate::forward(Context& ctx, const TensorRef& u, const Trace& trace) const {
  const TensorRef logits = ops::linear_unrounded(ctx, u, linear.weight);
  const ops::Selection chosen = ops::select_experts(ctx, logits, e_score_correction_bias.values, rule);  // (13-16)
  trace("router_logits", logits);
  trace("topk_idx", chosen.experts);
  trace("topk_weight", chosen.weights);
  return chosen;
}

Moe::Moe(const Config& c)
    : gate(c),
      experts(static_cast<std::size_t>(c.n_routed_experts), FeedForward(c, c.moe_intermediate_size)),
      has_shared_experts(c.n_shared_experts > 0) {
  if (has_shared_experts) shared_experts = FeedForward(c, c.moe_intermediate_size * c.n_shared_experts);
}

TensorRef Moe::resident(Context& ctx, const TensorRef& u, const ops::Selection& chosen) const {
  std::vector<ops::FeedForwardRef> routed;
  for (const FeedForward& expert : experts) routed.push_back(expert.weights());
  return ops::mixture(ctx, u, chosen, routed, has_shared_experts ? shared_experts.weights() : ops::FeedForwardRef{},
                      gate.linear.ue8m0);  // (12)
}

TensorRef Moe::forward(Context& ctx, const TensorRef& u, const Trace& trace,
                       const std::function<void()>& while_reading) const {
  const ops::Selection chosen = gate.forward(ctx, u, trace);
  const PhaseScope phase(ctx.phases, Phase::kExperts);
  const TensorRef out = store ? streamed(ctx, u, chosen, while_reading) : resident(ctx, u, chosen);
  trace("moe_out", out);
  return out;
}

}  // namespace hadal::model
