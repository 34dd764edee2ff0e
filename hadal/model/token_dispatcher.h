// The seam to the routed experts: where they are - in memory, on disk, with another process - is known behind it alone.
#pragma once

#include <cstdint>

#include "hadal/core/context.h"
#include "hadal/ops/experts.h"

namespace hadal::model {

struct Moe;

// The tokens of one MoE layer, on their way to the experts they chose.
struct RoutedTokens {
  Index layer;
  const ConstTensorRef& u;  // [T, hidden]
  const ops::Selection& chosen;
};

// One layer at a time: dispatch, then combine. Whatever is behind it, combine gives the same bits.
class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;

  // A pass is about to begin; `other_bytes` of memory are taken by caches and intermediate results.
  virtual void begin_pass(std::uint64_t /*other_bytes*/) {}
  // The residual stream [T, hidden] in front of `layer`'s feed-forward, dense or not: a hint of what later layers will
  // ask for. Valid until the layer has been combined.
  virtual void approach(Context& /*ctx*/, Index /*layer*/, const ConstTensorRef& /*x*/) {}
  // Tokens and experts begin to move towards each other.
  virtual void dispatch(Context& ctx, const Moe& moe, const RoutedTokens& tokens) = 0;
  // What dispatch and combine take of ctx.workspace, whatever the tokens choose, and what approach takes.
  virtual WorkspaceNeed need(const Context& ctx, const Moe& moe, Index tokens, Index layer) const = 0;
  virtual WorkspaceNeed approach_need(const Context& /*ctx*/, Index /*tokens*/, Index /*layer*/) const { return {}; }
  // [T, hidden], in ctx.workspace: the chosen experts' outputs, weighted and summed in the order of the slots, and the
  // shared experts' (equation 12).
  virtual TensorRef combine(Context& ctx, const Moe& moe, const RoutedTokens& tokens) = 0;
};

// All experts are in memory.
TokenDispatcher& local_experts();

}  // namespace hadal::model
