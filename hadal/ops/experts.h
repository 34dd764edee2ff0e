// The pieces of a mixture of experts that move tokens: selection, grouping by expert, weighted sum.
#pragma once

#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

struct GateRule {
  Index num_experts_per_tok = 0;
  Index n_group = 1;  // 1: no group limit
  Index topk_group = 1;
  Index group_best = 1;  // how many of a group's best scores make its score: 2 for V3, 1 for V2
  bool sigmoid = true;   // otherwise softmax
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;
};

struct Selection {
  TensorRef experts;  // I32 [T, k], descending selection score, the lower index first among equals
  TensorRef weights;  // F32 [T, k], of the unbiased scores, normalised and scaled
};

// logits [T, E]; bias [E] or empty, used for the selection only (rule 21). Throws Error for a logit that is not finite
// and for a bias that is NaN or infinity, before anything is chosen.
Selection select_experts(Context& ctx, const ConstTensorRef& logits, const ConstTensorRef& bias, const GateRule& rule);

WorkspaceNeed select_experts_need(const Context& ctx, Index tokens, Index experts, const GateRule& rule);

// Which rows go to which expert: for expert e, entries [begin[e], begin[e + 1]) of `token` and `slot` (the token's slot
// in its selection), ascending in token.
struct ExpertGroups {
  std::vector<Index> begin;
  std::vector<Index> token;
  std::vector<Index> slot;
};
// From ids on the host, and from those of a selection, which are fetched.
ExpertGroups group_by_expert(const ConstTensorRef& experts, Index n_routed_experts);
ExpertGroups group_by_expert(Context& ctx, const Selection& chosen, Index n_routed_experts);

// The weights of down(silu(gate(x)) * up(x)); all null: not needed by any token, or absent.
struct FeedForwardRef {
  const Weight* gate_proj = nullptr;
  const Weight* up_proj = nullptr;
  const Weight* down_proj = nullptr;
  explicit operator bool() const { return gate_proj != nullptr; }
};

// y [T, D] = sum over slots s of weights[t, s] * E(x_t), E the expert to which `groups` send token and slot, in the
// order of the slots, plus shared(x_t) if there is one. `experts` has an entry per routed expert; those that no token
// chose may be empty.
TensorRef mixture(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups, const ConstTensorRef& weights,
                  std::span<const FeedForwardRef> experts, const FeedForwardRef& shared, bool ue8m0);
// The same of a selection that has not been grouped yet.
TensorRef mixture(Context& ctx, const ConstTensorRef& x, const Selection& chosen,
                  std::span<const FeedForwardRef> experts, const FeedForwardRef& shared, bool ue8m0);

// Whatever T tokens choose, K each, in whatever layout the weights lie then.
WorkspaceNeed mixture_need(const Context& ctx, Index tokens, Index width, Index chosen,
                           std::span<const FeedForwardRef> experts, const FeedForwardRef& shared);

// y [T, D] = sum over slots of weights[t, s] * outputs[row of (t, s)], in the order of the slots; outputs [T * k, D]
// lie in the order of `groups`.
TensorRef combine_experts(Context& ctx, const ConstTensorRef& outputs, const ExpertGroups& groups,
                          const ConstTensorRef& weights);

}  // namespace hadal::ops
