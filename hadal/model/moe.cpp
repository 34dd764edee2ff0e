#include "hadal/model/moe.h"

namespace hadal::model {

Gate::Gate(const Config& c)
    : n_routed_experts(c.n_routed_experts),
      linear(make_linear(c, c.hidden_size, c.n_routed_experts)),
      has_bias(c.topk_method == config::TopkMethod::kNoauxTc) {
  rule.num_experts_per_tok = c.num_experts_per_tok;
  rule.n_group = c.topk_method == config::TopkMethod::kGreedy ? 1 : c.n_group;
  rule.topk_group = c.topk_group;
  rule.group_best = c.topk_method == config::TopkMethod::kNoauxTc ? 2 : 1;  // rule 22
  rule.sigmoid = c.scoring_func == config::ScoringFunc::kSigmoid;
  rule.norm_topk_prob = c.norm_topk_prob;
  rule.routed_scaling_factor = c.routed_scale();
}

TensorRef Gate::logits(Context& ctx, const ConstTensorRef& u) const {
  return ops::linear_unrounded(ctx, u, linear.weight);
}

ops::Selection Gate::select(Context& ctx, const ConstTensorRef& logits) const {
  return ops::select_experts(ctx, logits, e_score_correction_bias.values, rule);  // (13-16)
}

ops::Selection Gate::forward(Context& ctx, const ConstTensorRef& u) const {
  const ops::Selection chosen = select(ctx, ctx.observe("router_logits", logits(ctx, u)));
  ctx.observe("topk_idx", chosen.experts);
  ctx.observe("topk_weight", chosen.weights);
  return chosen;
}

WorkspaceNeed Gate::need(const Context& ctx, Index tokens) const {
  WorkspaceNeed need = ops::linear_unrounded_need(ctx, tokens, linear.weight);
  need.then(ops::select_experts_need(ctx, tokens, n_routed_experts, rule));
  return need;
}

Moe::Moe(const Config& c, const Part& part)
    : gate(c),
      experts(static_cast<std::size_t>(part.experts.count()), FeedForward(c, c.moe_intermediate_size)),
      first_expert(part.experts.begin),
      has_shared_experts(c.n_shared_experts > 0) {
  if (has_shared_experts) shared_experts = FeedForward(c, c.moe_intermediate_size * c.n_shared_experts, part.shards);
}

TensorRef Moe::forward(Context& ctx, const ConstTensorRef& u, TokenDispatcher& dispatcher, Index layer) const {
  const ops::Selection chosen = gate.forward(ctx, u);  // (13-16)
  const RoutedTokens tokens{layer, u, chosen};
  dispatcher.dispatch(ctx, *this, tokens);
  return ctx.observe("moe_out", dispatcher.combine(ctx, *this, tokens));  // (12)
}

std::vector<ops::FeedForwardRef> Moe::weights() const {
  std::vector<ops::FeedForwardRef> all;
  all.reserve(experts.size());
  for (const FeedForward& expert : experts) all.push_back(expert.weights());
  return all;
}

WorkspaceNeed Moe::need(const Context& ctx, Index tokens, const TokenDispatcher& dispatcher, Index layer) const {
  WorkspaceNeed need = gate.need(ctx, tokens);
  need.then(dispatcher.need(ctx, *this, tokens, layer));
  return need;
}

}  // namespace hadal::model
