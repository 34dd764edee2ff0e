#include "hadal/ops/experts.h"

#include "hadal/core/transfer.h"
#include "hadal/kernels/backend.h"
#include "hadal/ops/linear_args.h"
#include "hadal/ops/real.h"
#include "hadal/ops/gate_args.h"

namespace hadal::ops {
namespace {

bool fits(const FeedForwardRef& w, Index width) {
  return w.gate_proj && w.up_proj && w.down_proj && is_matrix(*w.gate_proj, width) && is_matrix(*w.up_proj, width) &&
         w.up_proj->num_rows() == w.gate_proj->num_rows() && is_matrix(*w.down_proj, w.gate_proj->num_rows()) &&
         w.down_proj->num_rows() == width;
}

void check_network(Index expert, const FeedForwardRef& w, Index width) {
  if (fits(w, width)) return;
  const std::string whose = expert < 0 ? "the shared expert" : "expert " + std::to_string(expert);
  HADAL_CHECK(w.gate_proj && w.up_proj && w.down_proj, "mixture: {} was chosen and has no weights", whose);
  check_matrix("mixture", (whose + "'s gate_proj").c_str(), *w.gate_proj, width);
  check_matrix("mixture", (whose + "'s up_proj").c_str(), *w.up_proj, width);
  check_matrix("mixture", (whose + "'s down_proj").c_str(), *w.down_proj, w.gate_proj->num_rows());
  fail("mixture: {} has gate_proj {}, up_proj {} and down_proj {} for rows of {}", whose,
       w.gate_proj->shape().to_string(), w.up_proj->shape().to_string(), w.down_proj->shape().to_string(), width);
}

kernels::LinearArgs product_args(const Context& ctx, const Weight& w) {
  kernels::LinearArgs a = weight_args(ctx, "mixture", w);
  a.activations = ctx.numerics.activations;
  return a;
}

kernels::NetworkArgs network_args(const Context& ctx, const FeedForwardRef& w, Index begin, Index end) {
  return {.gate = product_args(ctx, *w.gate_proj),
          .up = product_args(ctx, *w.up_proj),
          .down = product_args(ctx, *w.down_proj),
          .begin = begin,
          .end = end};
}

bool same_form(const FeedForwardRef& a, const FeedForwardRef& b) {
  const auto same = [](const Weight& x, const Weight& y) {
    return x.dtype() == y.dtype() && x.shape() == y.shape() && x.scale_columns == y.scale_columns;
  };
  return same(*a.gate_proj, *b.gate_proj) && same(*a.up_proj, *b.up_proj) && same(*a.down_proj, *b.down_proj);
}

// As rows, and packed as far as that is possible.
void add_layouts(const Context& ctx, std::vector<kernels::NetworkArgs>& forms, kernels::NetworkArgs network) {
  for (const Layout layout : {Layout::kRows, kernels::backend(ctx).packed_layout(ctx.numerics)}) {
    for (kernels::LinearArgs* a : {&network.gate, &network.up, &network.down}) {
      a->w_layout = kernels::can_group(a->w_dtype, a->n, a->k) ? layout : Layout::kRows;
      a->w_scale_layout = Layout::kRows;
    }
    forms.push_back(network);
  }
}

}  // namespace

kernels::GateArgs gate_args(const Context& ctx, const ConstTensorRef& logits, const ConstTensorRef& bias,
                            const GateRule& rule) {
  HADAL_CHECK(logits.rank() == 2, "gate: logits have shape {}, not [T, E]", logits.shape().to_string());
  const Index experts = logits.size(1);
  HADAL_CHECK(!bias || bias.shape() == Shape({experts}), "gate: logits {}, bias {}", logits.shape().to_string(),
              bias.shape().to_string());
  const Index groups = rule.n_group, kept = groups > 1 ? rule.topk_group : 1;
  HADAL_CHECK(rule.num_experts_per_tok >= 1 && groups >= 1 && experts % groups == 0 && kept >= 1 && kept <= groups &&
                  rule.num_experts_per_tok <= kept * (experts / groups),
              "gate: {} of {} experts cannot be chosen in {} of {} groups", rule.num_experts_per_tok, experts, kept,
              groups);
  return {.n_routed_experts = experts,
          .num_experts_per_tok = rule.num_experts_per_tok,
          .n_group = rule.n_group,
          .topk_group = rule.topk_group,
          .group_best = rule.group_best,
          .sigmoid = rule.sigmoid,
          .norm_topk_prob = rule.norm_topk_prob,
          .routed_scaling_factor = rule.routed_scaling_factor,
          .bias = bias ? bias.data_on<float>(ctx.device) : nullptr};
}

Selection select_experts(Context& ctx, const ConstTensorRef& logits, const ConstTensorRef& bias, const GateRule& rule) {
  const kernels::GateArgs args = gate_args(ctx, logits, bias, rule);
  const Shape shape{logits.size(0), rule.num_experts_per_tok};
  const Selection out{ctx.workspace.tensor(DType::kI32, shape), ctx.workspace.tensor(logits.dtype(), shape)};
  const auto experts = out.experts.view_on<std::int32_t, 2>(ctx.device);
  if (is_double(logits))
    kernels::training_kernels<double>(ctx).gate(ctx, args, logits.view_on<double, 2>(ctx.device), experts,
                                                out.weights.view_on<double, 2>(ctx.device));
  else
    kernels::backend(ctx).gate(ctx, args, logits.view_on<float, 2>(ctx.device), experts,
                               out.weights.view_on<float, 2>(ctx.device));
  return out;
}

WorkspaceNeed select_experts_need(const Context& ctx, Index tokens, Index experts, const GateRule& rule) {
  WorkspaceNeed need;
  need.tensor(DType::kI32, tokens * rule.num_experts_per_tok);
  need.floats(tokens * rule.num_experts_per_tok);
  need.within(kernels::backend(ctx).gate_need(ctx, experts));
  return need;
}

ExpertGroups group_by_expert(const ConstTensorRef& experts, Index n_routed_experts) {
  const auto chosen = experts.view<std::int32_t, 2>();
  const Index tokens = chosen.shape[0], k = chosen.shape[1];
  ExpertGroups g;
  g.begin.assign(static_cast<std::size_t>(n_routed_experts) + 1, 0);
  g.token.resize(static_cast<std::size_t>(tokens * k));
  g.slot.resize(static_cast<std::size_t>(tokens * k));
  for (Index t = 0; t < tokens; ++t)
    for (Index s = 0; s < k; ++s) {
      HADAL_CHECK(chosen(t, s) >= 0 && chosen(t, s) < n_routed_experts, "group_by_expert: expert {} of {}",
                  chosen(t, s), n_routed_experts);
      ++g.begin[static_cast<std::size_t>(chosen(t, s)) + 1];
    }
  for (std::size_t e = 1; e < g.begin.size(); ++e) g.begin[e] += g.begin[e - 1];
  std::vector<Index> next(g.begin.begin(), g.begin.end() - 1);
  for (Index t = 0; t < tokens; ++t)
    for (Index s = 0; s < k; ++s) {
      const auto at = static_cast<std::size_t>(next[static_cast<std::size_t>(chosen(t, s))]++);
      g.token[at] = t;
      g.slot[at] = s;
    }
  return g;
}

ExpertGroups group_by_expert(Context& ctx, const Selection& chosen, Index n_routed_experts) {
  return group_by_expert(*OnHost(ctx, chosen.experts), n_routed_experts);
}

TensorRef mixture(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups, const ConstTensorRef& weights,
                  std::span<const FeedForwardRef> experts, const FeedForwardRef& shared, bool ue8m0) {
  HADAL_CHECK(x.rank() == 2, "mixture: x has shape {}, not [T, D]", x.shape().to_string());
  HADAL_CHECK(weights.rank() == 2 && weights.size(0) == x.size(0) &&
                  static_cast<Index>(groups.token.size()) == weights.num_elements() &&
                  groups.slot.size() == groups.token.size() && groups.begin.size() == experts.size() + 1,
              "mixture: {} rows, weights {}, {} rows in groups of {} experts", x.size(0), weights.shape().to_string(),
              groups.token.size(), experts.size());
  const TensorRef out = ctx.workspace.floats(x.shape());
  if (x.size(0) == 0) return out;
  std::vector<kernels::NetworkArgs> networks;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    if (groups.begin[e] == groups.begin[e + 1]) continue;
    check_network(static_cast<Index>(e), experts[e], x.size(1));
    networks.push_back(network_args(ctx, experts[e], groups.begin[e], groups.begin[e + 1]));
  }
  std::vector<kernels::NetworkArgs> common;
  if (shared) {
    check_network(-1, shared, x.size(1));
    common.push_back(network_args(ctx, shared, 0, x.size(0)));
  }
  kernels::backend(ctx).mixture(ctx, {.x = x.view_on<float, 2>(ctx.device),
                                      .weights = weights.view_on<float, 2>(ctx.device),
                                      .networks = networks,
                                      .tokens = groups.token,
                                      .slots = groups.slot,
                                      .shared = common.data(),
                                      .ue8m0 = ue8m0,
                                      .out = out.view_on<float, 2>(ctx.device)});
  return out;
}

WorkspaceNeed mixture_need(const Context& ctx, Index tokens, Index width, Index chosen,
                           std::span<const FeedForwardRef> experts, const FeedForwardRef& shared) {
  std::vector<kernels::NetworkArgs> forms, common;
  const FeedForwardRef* before = nullptr;
  for (const FeedForwardRef& w : experts) {
    if (before && same_form(*before, w)) continue;
    add_layouts(ctx, forms, network_args(ctx, w, 0, 0));
    before = &w;
  }
  if (shared) common.push_back(network_args(ctx, shared, 0, tokens));
  WorkspaceNeed need;
  need.floats(tokens * width);
  if (tokens > 0)
    need.within(kernels::backend(ctx).mixture_need(ctx, {.tokens = tokens,
                                                         .width = width,
                                                         .chosen = chosen,
                                                         .networks = static_cast<Index>(experts.size()),
                                                         .forms = forms,
                                                         .shared = common.data()}));
  return need;
}

TensorRef mixture(Context& ctx, const ConstTensorRef& x, const Selection& chosen,
                  std::span<const FeedForwardRef> experts, const FeedForwardRef& shared, bool ue8m0) {
  HADAL_CHECK(chosen.experts.rank() == 2 && chosen.experts.shape() == chosen.weights.shape() && x.rank() == 2 &&
                  chosen.experts.size(0) == x.size(0),
              "mixture: x {}, experts {} and weights {}", x.shape().to_string(), chosen.experts.shape().to_string(),
              chosen.weights.shape().to_string());
  const ExpertGroups groups = group_by_expert(ctx, chosen, static_cast<Index>(experts.size()));
  return mixture(ctx, x, groups, chosen.weights, experts, shared, ue8m0);
}

TensorRef combine_experts(Context& ctx, const ConstTensorRef& outputs, const ExpertGroups& groups,
                          const ConstTensorRef& weights) {
  HADAL_CHECK(outputs.rank() == 2 && weights.rank() == 2 && outputs.size(0) == weights.num_elements() &&
                  static_cast<Index>(groups.token.size()) == outputs.size(0) &&
                  groups.slot.size() == groups.token.size(),
              "combine_experts: outputs {}, weights {}, {} rows in groups", outputs.shape().to_string(),
              weights.shape().to_string(), groups.token.size());
  const TensorRef y = ctx.workspace.floats({weights.size(0), outputs.size(1)});
  kernels::backend(ctx).combine(ctx, {outputs.view_on<float, 2>(ctx.device), weights.view_on<float, 2>(ctx.device),
                                      groups.token, groups.slot, y.view_on<float, 2>(ctx.device)});
  return y;
}

}  // namespace hadal::ops
