#include "hadal/ops/expert_waves.h"

#include <algorithm>
#include <vector>

#include "hadal/core/transfer.h"
#include "hadal/ops/elementwise.h"

namespace hadal::ops {
namespace {

// Rows that have one expert each, those of an expert together: a mixture with weights of 1 gives that expert's output
// as it is.
struct OneEach {
  explicit OneEach(std::size_t num_experts) { groups.begin.assign(num_experts + 1, 0); }

  // The next `rows` rows go to expert e; experts ascend.
  void add(std::size_t e, Index rows) {
    for (Index i = 0; i < rows; ++i) groups.token.push_back(static_cast<Index>(groups.token.size()));
    groups.slot.resize(groups.token.size(), 0);
    std::fill(groups.begin.begin() + static_cast<std::ptrdiff_t>(e) + 1, groups.begin.end(),
              static_cast<Index>(groups.token.size()));
  }

  TensorRef outputs(Context& ctx, const ConstTensorRef& x, std::span<const FeedForwardRef> experts, bool ue8m0) const {
    std::vector<float> ones(groups.token.size(), 1.0f);
    const ConstTensorRef weights(ones.data(), DType::kF32, {static_cast<Index>(ones.size()), 1});
    return mixture(ctx, x, groups, to_device(ctx, weights), experts, FeedForwardRef{}, ue8m0);
  }

  ExpertGroups groups;
};

WorkspaceNeed one_each_need(Index rows) {
  WorkspaceNeed need;
  need.floats(rows);
  return need;
}

}  // namespace

void expert_outputs(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups, std::span<const Index> wave,
                    std::span<const FeedForwardRef> experts, bool ue8m0, const TensorRef& outputs) {
  const Workspace::Scope scope(ctx.workspace);
  std::vector<Index> tokens;
  OneEach rows(experts.size());
  for (const Index e : wave) {
    const auto at = static_cast<std::size_t>(e);
    tokens.insert(tokens.end(), groups.token.begin() + groups.begin[at], groups.token.begin() + groups.begin[at + 1]);
    rows.add(at, groups.begin[at + 1] - groups.begin[at]);
  }
  const TensorRef y = rows.outputs(ctx, gather_rows(ctx, x, tokens), experts, ue8m0);
  Index row = 0;
  for (const Index e : wave) {
    const Index begin = groups.begin[static_cast<std::size_t>(e)], end = groups.begin[static_cast<std::size_t>(e) + 1];
    copy_rows(ctx, y.rows(row, row + end - begin), outputs.rows(begin, end));
    row += end - begin;
  }
}

TensorRef expert_output(Context& ctx, const ConstTensorRef& x, const FeedForwardRef& expert, bool ue8m0) {
  OneEach rows(1);
  rows.add(0, x.size(0));
  return rows.outputs(ctx, x, std::span(&expert, 1), ue8m0);
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
