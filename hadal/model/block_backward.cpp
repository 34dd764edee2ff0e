// Blocks and MTP modules in training.
#include "hadal/model/block.h"

namespace hadal::model {
namespace {

// a + b, in `kept`.
TensorRef sum(Context& kept, const ConstTensorRef& a, const ConstTensorRef& b) {
  const TensorRef y = kept.workspace.tensor(a.dtype(), a.shape());
  ops::copy_rows(kept, a, y);
  ops::add_in_place(kept, y, b);
  return y;
}

}  // namespace

TensorRef Block::forward(Context& ctx, const ConstTensorRef& x, const BatchRows& rows, const Keep& keep,
                         Saved& s) const {
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef h = input_layernorm.forward(keep.cheap(ctx), x, s.attn_norm);
  const TensorRef after = sum(keep.kept, x, self_attn.forward(ctx, h, rows, keep, s.attn));
  const TensorRef u = post_attention_layernorm.forward(keep.cheap(ctx), after, s.ffn_norm);
  if (keep.recompute)
    s.attn_norm.inverse_rms = s.ffn_norm.inverse_rms = {};
  else
    s.h = h, s.u = u;
  return sum(keep.kept, after,
             moe ? moe->forward(ctx, u, rows, keep, s.moe) : mlp->forward(ctx, u, keep, s.mlp));
}

TensorRef Block::backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, double balance,
                                const Saved& s, Deltas& d) const {
  d.attn_norm = s.attn_norm;
  d.ffn_norm = s.ffn_norm;
  d.normed_h = s.h ? s.h : input_layernorm.forward(ctx, s.attn_norm.x, d.attn_norm);
  d.normed_u = s.u ? s.u : post_attention_layernorm.forward(ctx, s.ffn_norm.x, d.ffn_norm);
  d.u = moe ? moe->backward_input(ctx, dy, rows, balance, s.moe, d.moe) : mlp->backward_input(ctx, dy, s.mlp, d.mlp);
  const TensorRef d_after = sum(ctx, dy, post_attention_layernorm.backward_input(ctx, d.u, d.ffn_norm));
  d.h = self_attn.backward_input(ctx, d_after, rows, s.attn, d.attn);
  return sum(ctx, d_after, input_layernorm.backward_input(ctx, d.h, d.attn_norm));
}

void Block::backward_weight(Context& ctx, const Saved& s, const Deltas& d) const {
  if (moe)
    moe->backward_weight(ctx, d.normed_u, s.moe, d.moe);
  else
    mlp->backward_weight(ctx, d.normed_u, d.mlp);
  post_attention_layernorm.backward_weight(ctx, d.u, d.ffn_norm);
  self_attn.backward_weight(ctx, d.normed_h, s.attn, d.attn);
  input_layernorm.backward_weight(ctx, d.h, d.attn_norm);
}

TensorRef Mtp::forward(Context& ctx, const Inputs& in, const BatchRows& rows, const Keep& keep, Saved& s) const {
  s.joined = ops::concatenate(keep.kept, enorm.forward(keep.kept, in.embedded, s.enorm),
                              hnorm.forward(keep.kept, in.previous, s.hnorm));
  const TensorRef x = eh_proj.forward(keep.kept, s.joined);                   // (21)
  const TensorRef y = block.forward(ctx, x, rows, keep, s.block);             // (22)
  return shared_head.norm.forward(keep.kept, y, s.head_norm);
}

Mtp::Inputs Mtp::backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, double balance,
                                const Saved& s, Deltas& d) const {
  d.hidden = dy;
  const TensorRef d_y = shared_head.norm.backward_input(ctx, dy, s.head_norm);
  d.x = block.backward_input(ctx, d_y, rows, balance, s.block, d.block);  // (22)
  const TensorRef d_joined = eh_proj.backward_input(ctx, d.x);            // (21)
  const Index hidden = enorm.width;
  d.embedded = d_joined.columns(0, hidden);
  d.previous = d_joined.columns(hidden, 2 * hidden);
  return {enorm.backward_input(ctx, d.embedded, s.enorm), hnorm.backward_input(ctx, d.previous, s.hnorm)};
}

void Mtp::backward_weight(Context& ctx, const Saved& s, const Deltas& d) const {
  shared_head.norm.backward_weight(ctx, d.hidden, s.head_norm);
  block.backward_weight(ctx, s.block, d.block);
  eh_proj.backward_weight(ctx, d.x, s.joined);
  enorm.backward_weight(ctx, d.embedded, s.enorm);
  hnorm.backward_weight(ctx, d.previous, s.hnorm);
}

}  // namespace hadal::model
