#include "hadal/ops/experts.h"

#include <cstring>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/gate.h"
#include "hadal/kernels/work.h"

namespace hadal::ops {

Selection select_experts(Context& ctx, const TensorRef& logits, const TensorRef& bias, const GateRule& rule) {
  const Index tokens = logits.size(0), experts = logits.size(1);
  HADAL_CHECK(!bias || bias.size(0) == experts, "gate: {} logits, {} biases", experts, bias.size(0));
  const kernels::GateArgs args{.n_routed_experts = experts,
                               .num_experts_per_tok = rule.num_experts_per_tok,
                               .n_group = rule.n_group,
                               .topk_group = rule.topk_group,
                               .group_best = rule.group_best,
                               .sigmoid = rule.sigmoid,
                               .norm_topk_prob = rule.norm_topk_prob,
                               .routed_scaling_factor = rule.routed_scaling_factor,
                               .bias = bias ? bias.data<float>() : nullptr};
  const Selection out{ctx.workspace.tensor(DType::kI32, {tokens, rule.num_experts_per_tok}),
                      ctx.workspace.floats({tokens, rule.num_experts_per_tok})};
  const auto in = logits.view<float, 2>(), weights = out.weights.view<float, 2>();
  const auto chosen = out.experts.view<std::int32_t, 2>();
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef scratch = ctx.workspace.tensor(DType::kF64, {ctx.threads.num_threads(), 3 * experts});
  ctx.threads.parallel_for(tokens, kernels::piece_size(ctx, tokens, experts * 32, 1), [&](Index begin, Index end) {
    double* mine = scratch.data<double>() + ThreadPool::current_thread() * 3 * experts;
    for (Index t = begin; t < end; ++t) kernels::ref::gate(args, in.row(t), mine, chosen.row(t), weights.row(t));
  });
  return out;
}

ExpertGroups group_by_expert(const TensorRef& experts, Index n_routed_experts) {
  const auto chosen = experts.view<std::int32_t, 2>();
  const Index tokens = chosen.shape[0], k = chosen.shape[1];
  ExpertGroups g;
  g.begin.assign(static_cast<std::size_t>(n_routed_experts) + 1, 0);
  g.token.resize(static_cast<std::size_t>(tokens * k));
  g.slot.resize(static_cast<std::size_t>(tokens * k));
  for (Index t = 0; t < tokens; ++t)
    for (Index s = 0; s < k; ++s) ++g.begin[static_cast<std::size_t>(chosen(t, s)) + 1];
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

TensorRef combine_experts(Context& ctx, const TensorRef& outputs, const ExpertGroups& groups,
                          const TensorRef& weights) {
  const Index tokens = weights.size(0), k = weights.size(1), width = outputs.size(1);
  const TensorRef y = ctx.workspace.floats({tokens, width});
  const auto out = outputs.view<float, 2>(), to = y.view<float, 2>(), w = weights.view<float, 2>();
  std::vector<Index> row_of(static_cast<std::size_t>(tokens * k));
  for (std::size_t row = 0; row < groups.token.size(); ++row)
    row_of[static_cast<std::size_t>(groups.token[row] * k + groups.slot[row])] = static_cast<Index>(row);
  ctx.threads.parallel_for(tokens, kernels::piece_size(ctx, tokens, k * width, 1), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      std::memset(to.row(t), 0, static_cast<std::size_t>(width) * sizeof(float));
      for (Index s = 0; s < k; ++s) {
        const float* row = out.row(row_of[static_cast<std::size_t>(t * k + s)]);
        if (ctx.isa != Isa::kRef)
          kernels::avx2::axpy(w(t, s), row, to.row(t), width);
        else
          kernels::ref::axpy(w(t, s), row, to.row(t), width);
      }
    }
  });
  return y;
}

}  // namespace hadal::ops
