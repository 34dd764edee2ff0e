// MLA in training. The forward pass is that of mla.cpp in the expanded form, of whole sequences at once; the backward
// pass goes through the same equations from (11) to (1).
#include "hadal/model/mla.h"

namespace hadal::model {

Mla::UpProjected Mla::up_project(Context& ctx, const Saved& s, const BatchRows& rows) const {
  UpProjected up;
  ConstTensorRef q = s.q_a;
  if (has_q_lora) {
    up.c_q = q_a_layernorm.forward(ctx, s.q_a, up.q_a_norm);  // (6)
    q = q_b_proj.forward(ctx, up.c_q);                        // (7)
  }
  q = q.split_last(num_heads, nope + rope);
  const TensorRef q_pe = ops::rope(ctx, q.columns(nope, nope + rope), rows.rope);        // (8)
  up.q = ops::concatenate_heads(ctx, q.columns(0, nope), q_pe);                          // (9)
  up.c_kv = kv_a_layernorm.forward(ctx, s.kv_a.columns(0, kv_lora_rank), up.kv_a_norm);  // (1)
  up.kv = kv_b_proj.forward(ctx, up.c_kv).split_last(num_heads, nope + v);               // (2, 5)
  return up;
}

TensorRef Mla::forward(Context& ctx, const ConstTensorRef& h, const BatchRows& rows, const Keep& keep, Saved& s) const {
  const Linear& w_q = has_q_lora ? q_a_proj : q_proj;
  const auto down = ops::linear_all(keep.kept, h, {&w_q.weight, &kv_a_proj_with_mqa.weight}, w_q.ue8m0);  // (1, 3, 6)
  s.q_a = down[0];
  s.kv_a = down[1];
  s.k_pe = ops::rope(keep.kept, s.kv_a.columns(kv_lora_rank, kv_lora_rank + rope), rows.rope);  // (3)
  const UpProjected up = up_project(keep.cheap(ctx), s, rows);
  if (!keep.recompute) s.up = up;
  const ops::Attended attended = ops::attend_sequences(keep.kept, up.q, up.kv, s.k_pe, rows.attended, softmax_scale);
  s.out = attended.out;  // (10)
  s.lse = attended.lse;
  return o_proj.forward(ctx, s.out.reshape({rows.tokens(), num_heads * v}));  // (11)
}

TensorRef Mla::backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, const Saved& s,
                              Deltas& d) const {
  d.up = s.up.q ? s.up : up_project(ctx, s, rows);
  d.out = dy;
  const TensorRef d_o = o_proj.backward_input(ctx, dy).split_last(num_heads, v);  // (11)
  const ops::AttentionGradients g =
      ops::attend_backward(ctx, d_o, d.up.q, d.up.kv, s.k_pe, s.out, s.lse, rows.attended, softmax_scale);  // (10)
  d.largest = g.largest;

  const TensorRef d_q_pe = ops::rope_backward(ctx, g.q.columns(nope, nope + rope), rows.rope);  // (8)
  d.q = ops::concatenate_heads(ctx, g.q.columns(0, nope), d_q_pe)
            .reshape({rows.tokens(), num_heads * (nope + rope)});  // (9)
  d.q_a = d.q;
  if (has_q_lora) {
    d.c_q = q_b_proj.backward_input(ctx, d.q);                        // (7)
    d.q_a = q_a_layernorm.backward_input(ctx, d.c_q, d.up.q_a_norm);  // (6)
  }

  d.kv = g.kv.reshape({rows.tokens(), num_heads * (nope + v)});
  d.c_kv = kv_b_proj.backward_input(ctx, d.kv);                                           // (2, 5)
  const TensorRef d_latent = kv_a_layernorm.backward_input(ctx, d.c_kv, d.up.kv_a_norm);  // (1)
  d.kv_a = ops::concatenate(ctx, d_latent, ops::rope_backward(ctx, g.k_pe, rows.rope));   // (3)

  const Linear& w_q = has_q_lora ? q_a_proj : q_proj;
  return ops::linear_all_backward_input(ctx, {d.q_a, d.kv_a}, {&w_q.weight, &kv_a_proj_with_mqa.weight});
}

void Mla::backward_weight(Context& ctx, const ConstTensorRef& h, const Saved& s, const Deltas& d) const {
  o_proj.backward_weight(ctx, d.out, s.out.reshape({s.out.size(0), num_heads * v}));
  if (has_q_lora) {
    q_b_proj.backward_weight(ctx, d.q, d.up.c_q);
    q_a_layernorm.backward_weight(ctx, d.c_q, d.up.q_a_norm);
  }
  kv_b_proj.backward_weight(ctx, d.kv, d.up.c_kv);
  kv_a_layernorm.backward_weight(ctx, d.c_kv, d.up.kv_a_norm);
  const Linear& w_q = has_q_lora ? q_a_proj : q_proj;
  ops::linear_all_backward_weight(ctx, {d.q_a, d.kv_a}, h, {&w_q.weight, &kv_a_proj_with_mqa.weight});
}

}  // namespace hadal::model
