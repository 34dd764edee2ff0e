// The mixture in parts, for experts that are not in memory all at once: some experts' outputs at a time, in any order
// and any division, then `combine_experts` (experts.h) and the shared expert. The same bits as `mixture`, which does
// the computing here too.
#pragma once

#include <span>

#include "hadal/ops/experts.h"

namespace hadal::ops {

// For every expert of `wave` (ascending): rows [begin[e], begin[e + 1]) of outputs [T * k, D] become E_e(x[token]).
// `experts` has an entry per routed expert; those of the wave are bound.
void expert_outputs(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups, std::span<const Index> wave,
                    std::span<const FeedForwardRef> experts, bool ue8m0, const TensorRef& outputs);

// [T, D]: one expert for all rows, the shared one.
TensorRef expert_output(Context& ctx, const ConstTensorRef& x, const FeedForwardRef& expert, bool ue8m0);

// What T tokens take that come in waves, whatever they choose: all of them in one, and the outputs that it writes.
WorkspaceNeed expert_waves_need(const Context& ctx, Index tokens, Index width, Index chosen,
                                std::span<const FeedForwardRef> experts, const FeedForwardRef& shared);

}  // namespace hadal::ops
