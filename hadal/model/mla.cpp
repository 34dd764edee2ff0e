#include "hadal/model/mla.h"

#include <cmath>

#include "hadal/model/rotary.h"
#include "hadal/ops/latent_attention.h"

namespace hadal::model {
namespace {

// The latent norms keep this eps whatever rms_norm_eps says: the published modelling code fixes it (rule 19a).
constexpr double kLatentNormEps = 1e-6;

}  // namespace

Mla::Mla(const Config& c, Index shards)
    : num_heads(c.num_attention_heads / shards),
      nope(c.qk_nope_head_dim),
      rope(c.qk_rope_head_dim),
      v(c.v_head_dim),
      kv_lora_rank(c.kv_lora_rank),
      has_q_lora(c.q_lora_rank.has_value()) {
  softmax_scale = Rotary(c).softmax_scale_factor / std::sqrt(static_cast<double>(nope + rope));
  if (has_q_lora) {
    q_a_proj = make_linear(c, c.hidden_size, *c.q_lora_rank);
    q_a_layernorm = {.width = *c.q_lora_rank, .eps = kLatentNormEps, .weight = {}};
    q_b_proj = make_linear(c, *c.q_lora_rank, num_heads * (nope + rope), ShardAxis::kOutputs);
  } else {
    q_proj = make_linear(c, c.hidden_size, num_heads * (nope + rope), ShardAxis::kOutputs);
  }
  kv_a_proj_with_mqa = make_linear(c, c.hidden_size, kv_lora_rank + rope);
  kv_a_layernorm = {.width = kv_lora_rank, .eps = kLatentNormEps, .weight = {}};
  kv_b_proj = make_linear(c, kv_lora_rank, num_heads * (nope + v), ShardAxis::kOutputs);
  o_proj = make_linear(c, c.num_attention_heads * v, c.hidden_size / shards, ShardAxis::kOutputs);
}

TensorRef Mla::forward(Context& ctx, const ConstTensorRef& h, const Pass& pass, Index layer) const {
  const auto [q, kv_a] = project(ctx, h);                                             // (1, 3, 6, 7)
  const TensorRef q_nope = q.columns(0, nope);                                        // [T, H, nope]
  const TensorRef q_pe = ops::rope(ctx, q.columns(nope, nope + rope), pass.rope);     // (8)  [T, H, rope]
  const TensorRef c_kv = kv_a_layernorm.forward(ctx, kv_a.columns(0, kv_lora_rank));  // (1)  [T, c]
  const TensorRef k_r = kv_a.columns(kv_lora_rank, kv_lora_rank + rope);
  const TensorRef k_pe = ops::rope(ctx, k_r, pass.rope);  // (3)  [T, rope]
  pass.append(ctx, layer, c_kv, k_pe);
  ctx.observe("latent", c_kv);
  ctx.observe("k_rope", k_pe);
  const TensorRef o = attend(ctx, q_nope, q_pe, pass, layer);  // (2, 5, 9, 10)  [T, H * v]
  ctx.observe("attn_heads", o);
  return ctx.observe("attn_out", o_proj.forward(ctx, o));  // (11)
}

// The compressed query and the compressed keys and values come from one input: it is packed once for both.
Mla::Projected Mla::project(Context& ctx, const ConstTensorRef& h) const {
  const Linear& w_q = has_q_lora ? q_a_proj : q_proj;
  const auto down = ops::linear_all(ctx, h, {&w_q.weight, &kv_a_proj_with_mqa.weight}, w_q.ue8m0);  // (1, 3, 6)
  TensorRef q = down[0];
  if (has_q_lora) {
    const TensorRef c_q = ctx.observe("q_latent", q_a_layernorm.forward(ctx, q));  // (6)
    q = q_b_proj.forward(ctx, c_q);                                                // (7)
  }
  return {ctx.observe("q", q).split_last(num_heads, nope + rope), down[1]};
}

TensorRef Mla::attend(Context& ctx, const ConstTensorRef& q_nope, const ConstTensorRef& q_pe, const Pass& pass,
                      Index layer) const {
  const Index tokens = q_nope.size(0), split = pass.absorbed();
  const TensorRef o = ctx.workspace.floats({tokens, num_heads, v});
  const Workspace::Scope scope(ctx.workspace);
  if (split > 0) attend_absorbed(ctx, q_nope.rows(0, split), q_pe.rows(0, split), pass, layer, o.rows(0, split));
  if (split < tokens) attend_expanded(ctx, q_nope, q_pe, pass, layer, o);
  return o.reshape({tokens, num_heads * v});
}

// Keys and values of every cached position are made from the latents: ordinary attention.
void Mla::attend_expanded(Context& ctx, const ConstTensorRef& q_nope, const ConstTensorRef& q_pe, const Pass& pass,
                          Index layer, const TensorRef& o) const {
  for (const SequenceRows& s : pass.expanded_sequences()) {
    const Workspace::Scope scope(ctx.workspace);
    const TensorRef q = ops::concatenate_heads(ctx, q_nope.rows(s.begin, s.end), q_pe.rows(s.begin, s.end));  // (9)
    ops::expand_and_attend(ctx, q, pass.entries(layer, s), kv_b_proj.weight, {nope, v}, s.cache.length(), softmax_scale,
                           o.rows(s.begin, s.end));  // (2, 5, 10)
  }
}

// W^UK is folded into the query and W^UV applied to the result, so that all heads attend to the latents themselves.
// Both are read once for all sequences.
void Mla::attend_absorbed(Context& ctx, const ConstTensorRef& q_nope, const ConstTensorRef& q_pe, const Pass& pass,
                          Index layer, const TensorRef& o) const {
  const TensorRef q_c = ops::absorb(ctx, q_nope, kv_b_proj.weight, 0, nope + v);  // (2)  [T, H, c]
  ctx.observe("q_absorbed", q_c);
  const TensorRef o_c =
      ops::attend_absorbed(ctx, q_c, q_pe, pass.cached(layer).rows, softmax_scale);  // (10)  [T, H, c]
  ctx.observe("latent_out", o_c);
  ops::expand(ctx, o_c, kv_b_proj.weight, nope, nope + v, o);  // (5)  [T, H, v]
  ctx.observe("expanded_out", o);
}

WorkspaceNeed Mla::need(const Context& ctx, const Pass& pass, Index layer) const {
  const Index tokens = pass.tokens();
  const Weight& w_q = has_q_lora ? q_a_proj.weight : q_proj.weight;
  WorkspaceNeed need = ops::linear_need(ctx, tokens, {&w_q, &kv_a_proj_with_mqa.weight});
  if (has_q_lora) {
    need.floats(tokens * q_a_layernorm.width);
    need.then(ops::linear_need(ctx, tokens, {&q_b_proj.weight}));
  }
  need.floats(tokens * num_heads * rope);         // q_pe
  need.floats(tokens * kv_lora_rank);             // c_kv
  need.floats(tokens * rope);                     // k_pe
  need.floats(tokens * (kv_lora_rank + rope));    // entries
  need.floats(tokens * num_heads * v);            // o
  need.within(attention_need(ctx, pass, layer));
  need.then(ops::linear_need(ctx, tokens, {&o_proj.weight}));
  return need;
}

WorkspaceNeed Mla::attention_need(const Context& ctx, const Pass& pass, Index layer) const {
  WorkspaceNeed need;
  if (const Index rows = pass.absorbed(); rows > 0) {
    need.then(ops::absorb_need(rows, num_heads, kv_b_proj.weight));
    need.then(ops::attend_absorbed_need(ctx, rows, num_heads, kv_lora_rank, rope, pass.absorbed_rows()));
    need.then(ops::expand_need(ctx, rows, kv_b_proj.weight, nope, v));
  }
  for (const SequenceRows& s : pass.expanded_sequences()) {
    WorkspaceNeed of_sequence;
    of_sequence.floats(s.count() * num_heads * (nope + rope));  // q
    of_sequence.within(ops::expand_and_attend_need(ctx, s.count(), num_heads, pass.entries(layer, s), kv_b_proj.weight,
                                                   {nope, v}, s.cache.length()));
    need.within(of_sequence);
  }
  return need;
}

}  // namespace hadal::model
