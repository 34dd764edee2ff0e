#include "hadal/stream/streamed_experts.h"

#include <algorithm>
#include <numeric>

#include "hadal/core/transfer.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/expert_waves.h"

namespace hadal::stream {
namespace {

std::vector<Index> chosen_experts(const ops::ExpertGroups& groups) {
  std::vector<Index> needed;
  for (std::size_t e = 0; e + 1 < groups.begin.size(); ++e)
    if (groups.begin[e] < groups.begin[e + 1]) needed.push_back(static_cast<Index>(e));
  return needed;
}

// The experts that some token chose, by the weight of all tokens together.
std::vector<Index> by_weight(Context& ctx, const ops::Selection& guess, Index n_routed_experts) {
  std::vector<double> weight(static_cast<std::size_t>(n_routed_experts));
  const OnHost experts_here(ctx, guess.experts), weights_here(ctx, guess.weights);
  const auto chosen = experts_here->view<std::int32_t, 2>();
  const auto weights = weights_here->view<float, 2>();
  for (Index t = 0; t < chosen.shape[0]; ++t)
    for (Index s = 0; s < chosen.shape[1]; ++s) weight[static_cast<std::size_t>(chosen(t, s))] += double{weights(t, s)};
  std::vector<Index> ranked(weight.size());
  std::iota(ranked.begin(), ranked.end(), 0);
  std::stable_sort(ranked.begin(), ranked.end(), [&](Index a, Index b) {
    return weight[static_cast<std::size_t>(a)] > weight[static_cast<std::size_t>(b)];
  });
  while (!ranked.empty() && weight[static_cast<std::size_t>(ranked.back())] == 0) ranked.pop_back();
  return ranked;
}

}  // namespace

StreamedExperts::StreamedExperts(const model::Transformer& t, ExpertStore& store, std::vector<Index> store_layer_of)
    : store_(store), store_layer_of_(std::move(store_layer_of)), ahead_(store_layer_of_.size()) {
  for (std::size_t i = 0; i + 1 < t.layers.size(); ++i)
    if (const model::Block& next = t.layers[i + 1]; next.moe)
      ahead_[i] = {&next.post_attention_layernorm, &next.moe->gate};
}

void StreamedExperts::begin_pass(std::uint64_t other_bytes) {
  lease_.reset();  // of a pass that ended by throwing
  store_.begin_pass(other_bytes);
}

void StreamedExperts::approach(Context& ctx, Index layer, const ConstTensorRef& x) {
  x_ = x;
  // A layer with experts of its own asks for those first.
  if (store_layer_of_[static_cast<std::size_t>(layer)] < 0) look_ahead(ctx, layer);
}

void StreamedExperts::look_ahead(Context& ctx, Index layer) {
  const Ahead& next = ahead_[static_cast<std::size_t>(layer)];
  if (!next.norm) return;
  const Workspace::Scope scope(ctx.workspace);
  const ops::Selection guess = next.gate->select(ctx, next.gate->logits(ctx, next.norm->forward(ctx, x_)));
  store_.prefetch(store_layer_of_[static_cast<std::size_t>(layer) + 1],
                  by_weight(ctx, guess, next.gate->n_routed_experts));
}

void StreamedExperts::dispatch(Context& ctx, const model::Moe& moe, const model::RoutedTokens& tokens) {
  lease_.reset();
  groups_ = ops::group_by_expert(ctx, tokens.chosen, moe.gate.n_routed_experts);
  needed_ = chosen_experts(groups_);
  lease_.emplace(store_, store_layer_of_[static_cast<std::size_t>(tokens.layer)], needed_);
  look_ahead(ctx, tokens.layer);
}

TensorRef StreamedExperts::combine(Context& ctx, const model::Moe& moe, const model::RoutedTokens& tokens) {
  const auto& [layer, u, chosen] = tokens;
  const ops::FeedForwardRef shared = moe.shared();
  std::vector<Index> wave = lease_->next(false);
  if (wave.size() == needed_.size()) {
    const TensorRef out = ops::mixture(ctx, u, groups_, chosen.weights, lease_->weights(), shared, moe.ue8m0());
    lease_.reset();
    return out;
  }
  const TensorRef outputs = ctx.workspace.floats({chosen.experts.num_elements(), u.size(1)});
  const auto compute = [&] {
    if (!wave.empty()) ops::expert_outputs(ctx, u, groups_, wave, lease_->weights(), moe.ue8m0(), outputs);
  };
  compute();
  const TensorRef from_shared = shared ? ops::expert_output(ctx, u, shared, moe.ue8m0()) : TensorRef();
  while (!(wave = lease_->next()).empty()) compute();
  lease_.reset();
  const TensorRef out = ops::combine_experts(ctx, outputs, groups_, chosen.weights);
  if (shared) ops::add_in_place(ctx, out, from_shared);
  return out;
}

WorkspaceNeed StreamedExperts::need(const Context& ctx, const model::Moe& moe, Index tokens, Index layer) const {
  const Index width = moe.gate.linear.in_features, chosen = moe.gate.rule.num_experts_per_tok;
  const std::vector<ops::FeedForwardRef> experts = moe.weights();
  WorkspaceNeed need;
  need.within(approach_need(ctx, tokens, layer));
  need.within(ops::mixture_need(ctx, tokens, width, chosen, experts, moe.shared()));
  need.within(ops::expert_waves_need(ctx, tokens, width, chosen, experts, moe.shared()));
  return need;
}

WorkspaceNeed StreamedExperts::approach_need(const Context& ctx, Index tokens, Index layer) const {
  const Ahead& next = ahead_[static_cast<std::size_t>(layer)];
  WorkspaceNeed need;
  if (!next.norm) return need;
  need.floats(tokens * next.norm->width);
  need.then(next.gate->need(ctx, tokens));
  return need;
}

}  // namespace hadal::stream
