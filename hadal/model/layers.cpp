#include "hadal/model/layers.h"

namespace hadal::model {

Linear make_linear(const Config& c, Index in_features, Index out_features, ShardAxis axis) {
  return {
      .in_features = in_features, .out_features = out_features, .ue8m0 = c.ue8m0(), .shard_axis = axis, .weight = {}};
}

FeedForward::FeedForward(const Config& c, Index width, Index shards)
    : gate_proj(make_linear(c, c.hidden_size, width / shards, ShardAxis::kOutputs)),
      up_proj(make_linear(c, c.hidden_size, width / shards, ShardAxis::kOutputs)),
      down_proj(make_linear(c, width, c.hidden_size / shards, ShardAxis::kOutputs)) {}

TensorRef FeedForward::forward(Context& ctx, const ConstTensorRef& x, const Keep& keep, Saved& saved) const {
  const auto both = ops::linear_all(keep.kept, x, {&gate_proj.weight, &up_proj.weight}, gate_proj.ue8m0);
  saved = {both[0], both[1]};
  return down_proj.forward(ctx, ops::swiglu(ctx, saved.gate, saved.up));
}

TensorRef FeedForward::backward_input(Context& ctx, const ConstTensorRef& dy, const Saved& saved, Deltas& d) const {
  d.y = dy;
  d.inner = ops::swiglu_backward(ctx, saved.gate, saved.up, down_proj.backward_input(ctx, dy), {});
  return ops::linear_all_backward_input(ctx, {d.inner.gate, d.inner.up}, {&gate_proj.weight, &up_proj.weight});
}

void FeedForward::backward_weight(Context& ctx, const ConstTensorRef& x, const Deltas& d) const {
  down_proj.backward_weight(ctx, d.y, d.inner.inner);
  ops::linear_all_backward_weight(ctx, {d.inner.gate, d.inner.up}, x, {&gate_proj.weight, &up_proj.weight});
}

}  // namespace hadal::model
