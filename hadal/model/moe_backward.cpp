// DeepSeekMoE in training: forward as in moe.cpp, backward from equation 12 to 16.
#include "hadal/model/moe.h"

namespace hadal::model {

TensorRef Moe::forward(Context& ctx, const ConstTensorRef& u, const BatchRows& rows, const Keep& keep, Saved& s) const {
  s.logits = gate.logits(keep.kept, u);
  s.chosen = gate.select(keep.kept, s.logits);  // (13-16)
  s.load = keep.kept.workspace.tensor(u.dtype(), {static_cast<Index>(rows.sequences.size()), gate.n_routed_experts});
  s.balance = ops::balance_loss(ctx, s.logits, gate.rule, rows.sequences, s.load);  // (17-20)
  const TensorRef y = ops::experts_forward(ctx, keep.kept, u, s.chosen, weights(), s.experts);
  if (has_shared_experts) ops::add_in_place(ctx, y, shared_experts.forward(ctx, u, keep, s.shared));  // (12)
  return y;
}

TensorRef Moe::backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, double balance,
                              const Saved& s, Deltas& d) const {
  d.experts = ops::experts_backward_input(ctx, dy, s.chosen.weights, weights(), s.experts);  // (12)
  const TensorRef du = d.experts.u;
  if (has_shared_experts) ops::add_in_place(ctx, du, shared_experts.backward_input(ctx, dy, s.shared, d.shared));
  d.logits = ops::gate_backward(ctx, d.experts.weights, s.logits, s.chosen, gate.rule, rows.sequences, s.load,
                                balance);  // (13-20)
  ops::add_in_place(ctx, du, ops::linear_unrounded_backward_input(ctx, d.logits, gate.linear.weight));
  return du;
}

void Moe::backward_weight(Context& ctx, const ConstTensorRef& u, const Saved& s, const Deltas& d) const {
  ops::experts_backward_weight(ctx, u, weights(), s.experts, d.experts);
  if (has_shared_experts) shared_experts.backward_weight(ctx, u, d.shared);
  ops::linear_unrounded_backward_weight(ctx, d.logits, u, gate.linear.weight);
}

}  // namespace hadal::model
