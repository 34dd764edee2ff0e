#include "hadal/ops/expert_waves.h"

#include <algorithm>

#include "hadal/ops/elementwise.h"

namespace hadal::ops {
namespace {

// A mixture in which each row has one expert with weight 1 gives that expert's output as it is.
Selection one_each(Context& ctx, std::span<const Index> expert_of_row) {
  const auto rows = static_cast<Index>(expert_of_row.size());
  const Selection chosen{ctx.workspace.tensor(DType::kI32, {rows, 1}), ctx.workspace.floats({rows, 1})};
  std::copy(expert_of_row.begin(), expert_of_row.end(), chosen.experts.data<std::int32_t>());
  std::fill_n(chosen.weights.data<float>(), rows, 1.0f);
  return chosen;
}

WorkspaceNeed one_each_need(Index rows) {
  WorkspaceNeed need;
  for (const DType dtype : {DType::kI32, DType::kF32}) need.tensor(dtype, rows);
  return need;
}

}  // namespace

void expert_outputs(Context& ctx, const TensorRef& x, const ExpertGroups& groups, std::span<const Index> wave,
                    std::span<const FeedForwardRef> experts, bool ue8m0, const TensorRef& outputs) {
  const Workspace::Scope scope(ctx.workspace);
  std::vector<Index> tokens, expert_of_row;
  for (const Index e : wave) {
    const auto at = static_cast<std::size_t>(e);
    tokens.insert(tokens.end(), groups.token.begin() + groups.begin[at], groups.token.begin() + groups.begin[at + 1]);
    expert_of_row.resize(tokens.size(), e);
  }
  const TensorRef y =
      mixture(ctx, gather_rows(ctx, x, tokens), one_each(ctx, expert_of_row), experts, FeedForwardRef{}, ue8m0);
  Index row = 0;
  for (const Index e : wave) {
    const Index begin = groups.begin[static_cast<std::size_t>(e)], end = groups.begin[static_cast<std::size_t>(e) + 1];
    copy_rows(ctx, y.rows(row, row + end - begin), outputs.rows(begin, end));
    row += end - begin;
  }
}

TensorRef expert_output(Context& ctx, const TensorRef& x, const FeedForwardRef& expert, bool ue8m0) {
  const std::vector<Index> first(static_cast<std::size_t>(x.size(0)), 0);
  return mixture(ctx, x, one_each(ctx, first), std::span(&expert, 1), FeedForwardRef{}, ue8m0);
}

WorkspaceNeed expert_waves_need(const Context& ctx, Index tokens, Index width, Index chosen,
                                std::span<const FeedForwardRef> experts, const FeedForwardRef& shared) {
  const Index rows = tokens * chosen;
  WorkspaceNeed wave = one_each_need(rows);
  wave.floats(rows * width);  // gathered
  wave.then(mixture_need(ctx, rows, width, 1, experts, {}));
  WorkspaceNeed need;
  need.floats(rows * width);  // outputs
  need.within(wave);
  if (shared) {
    need.then(one_each_need(tokens));
    need.then(mixture_need(ctx, tokens, width, 1, std::span(&shared, 1), {}));
    need.within(wave);
  }
  need.floats(tokens * width);  // combine_experts
  return need;
}

}  // namespace hadal::ops
