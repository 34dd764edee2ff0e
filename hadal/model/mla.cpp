#include "hadal/model/mla.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "hadal/model/rotary.h"
#include "hadal/ops/attention.h"

namespace hadal::model {
namespace {

// The latent norms keep this eps whatever rms_norm_eps says: the published modelling code fixes it (rule 19a).
constexpr double kLatentNormEps = 1e-6;

// Bound on the expanded keys and values of a group of heads: 64 MiB.
constexpr Index kExpandedFloats = Index{1} << 24;

}  // namespace

Mla::Mla(const Config& c)
    : num_heads(c.num_attention_heads),
      nope(c.qk_nope_head_dim),
      rope(c.qk_rope_head_dim),
      v(c.v_head_dim),
      kv_lora_rank(c.kv_lora_rank),
      has_q_lora(c.q_lora_rank.has_value()) {
  softmax_scale = Rotary(c).softmax_scale_factor / std::sqrt(static_cast<double>(nope + rope));
  if (has_q_lora) {
    q_a_proj = make_linear(c, c.hidden_size, *c.q_lora_rank);
    q_a_layernorm = {.width = *c.q_lora_rank, .eps = kLatentNormEps, .weight = {}};
    q_b_proj = make_linear(c, *c.q_lora_rank, num_heads * (nope + rope));
  } else {
    q_proj = make_linear(c, c.hidden_size, num_heads * (nope + rope));
  }
  kv_a_proj_with_mqa = make_linear(c, c.hidden_size, kv_lora_rank + rope);
  kv_a_layernorm = {.width = kv_lora_rank, .eps = kLatentNormEps, .weight = {}};
  kv_b_proj = make_linear(c, kv_lora_rank, num_heads * (nope + v));
  o_proj = make_linear(c, num_heads * v, c.hidden_size);
}

TensorRef Mla::forward(Context& ctx, const TensorRef& h, const Positions& at, Index layer, const Trace& trace) const {
  PhaseScope phase(ctx.phases, Phase::kProjections);
  const Linear& q_first = has_q_lora ? q_a_proj : q_proj;
  const auto down = ops::linear_all(ctx, h, {&q_first.weight, &kv_a_proj_with_mqa.weight}, q_first.ue8m0);
  TensorRef q_all = down[0], kv_a = down[1];                                         // (1, 3)  kv_a [T, c + rope]
  if (has_q_lora) q_all = q_b_proj.forward(ctx, q_a_layernorm.forward(ctx, q_all));  // (6, 7)
  const TensorRef q = q_all.split_last(num_heads, nope + rope);                      // [T, H, nope + rope]
  const TensorRef q_nope = q.columns(0, nope);
  phase.enter(Phase::kNorms);
  const TensorRef q_pe = ops::rope(ctx, q.columns(nope, nope + rope), at.rope);  // (8)

  const TensorRef c_kv = kv_a_layernorm.forward(ctx, kv_a.columns(0, kv_lora_rank));
  const TensorRef k_pe = ops::rope(ctx, kv_a.columns(kv_lora_rank, kv_lora_rank + rope).split_last(1, rope), at.rope);
  trace("latent", c_kv);
  trace("k_rope", k_pe.reshape({k_pe.size(0), rope}));
  const TensorRef entries = ops::concatenate(ctx, c_kv, k_pe.reshape({k_pe.size(0), rope}));  // [T, c + rope]
  for (const SequenceRows& s : at.sequences) s.cache.write(ctx, layer, entries.rows(s.begin, s.end));

  phase.enter(Phase::kProjections);
  const TensorRef o = at.form == Form::kExpanded ? attend_expanded(ctx, q_nope, q_pe, at, layer)
                                                 : attend_absorbed(ctx, q_nope, q_pe, at, layer);
  const TensorRef heads = o.reshape({h.size(0), num_heads * v});
  trace("attn_heads", heads);
  const TensorRef out = o_proj.forward(ctx, heads);  // (11)
  trace("attn_out", out);
  return out;
}

TensorRef Mla::attend_expanded(Context& ctx, const TensorRef& q_nope, const TensorRef& q_pe, const Positions& at,
                               Index layer) const {
  const PhaseScope phase(ctx.phases, Phase::kAttention);
  const TensorRef q = ops::concatenate_heads(ctx, q_nope, q_pe);  // (9)  [T, H, nope + rope]
  const TensorRef o = ctx.workspace.floats({q.size(0), num_heads, v});
  for (const SequenceRows& s : at.sequences) {
    const Workspace::Scope scope(ctx.workspace);
    const TensorRef entries = s.cache.read(ctx, layer, s.end - s.begin);  // [L, c + rope], as stored
    attend_expanded(ctx, q.rows(s.begin, s.end), entries, s.cache.length(), o.rows(s.begin, s.end));
  }
  return o;
}

// Keys and values of every cached position are made from the latents, a group of heads at a time: ordinary attention.
void Mla::attend_expanded(Context& ctx, const TensorRef& q, const TensorRef& entries, Index first,
                          const TensorRef& o) const {
  PhaseScope phase(ctx.phases, Phase::kAttention);
  const TensorRef c_kv = entries.columns(0, kv_lora_rank);
  const TensorRef k_pe = entries.columns(kv_lora_rank, kv_lora_rank + rope);
  const Index group = std::clamp<Index>(kExpandedFloats / (entries.size(0) * (nope + v)), 1, num_heads);
  for (Index begin = 0; begin < num_heads; begin += group) {
    const Workspace::Scope scope(ctx.workspace);
    const Index end = std::min(begin + group, num_heads);
    const Weight of_heads = w_ukv().rows(begin * (nope + v), end * (nope + v));
    phase.enter(Phase::kProjections);
    const TensorRef kv =
        ops::linear_not_fp8(ctx, c_kv, of_heads).split_last(end - begin, nope + v);  // (2, 5) [L, H', nope + v]
    phase.enter(Phase::kAttention);
    ops::attend_expanded(ctx, q.slice(1, begin, end), kv, k_pe, first, softmax_scale, o.slice(1, begin, end));  // (10)
  }
}

// W^UK is folded into the query and W^UV applied to the result, so that all heads attend to the latents themselves.
// Both are read once for all sequences.
TensorRef Mla::attend_absorbed(Context& ctx, const TensorRef& q_nope, const TensorRef& q_pe, const Positions& at,
                               Index layer) const {
  PhaseScope phase(ctx.phases, Phase::kProjections);
  const TensorRef q_c = ops::absorb(ctx, q_nope, kv_b_proj.weight, 0, nope + v);  // (2)  [T, H, c]
  std::vector<std::vector<TensorRef>> pages;
  for (const SequenceRows& s : at.sequences) pages.push_back(ops::pages_of(s.cache.stored(layer, s.end - s.begin)));
  std::vector<ops::CachedRows> rows;
  for (const SequenceRows& s : at.sequences)
    rows.push_back({s.begin, s.end, s.cache.length(), pages[rows.size()], s.cache.fp8_entry()});
  phase.enter(Phase::kAttention);
  const TensorRef o_c = ops::attend_absorbed(ctx, q_c, q_pe, rows, softmax_scale);  // (10)  [T, H, c]
  phase.enter(Phase::kProjections);
  return ops::expand(ctx, o_c, w_ukv(), nope, nope + v, v);  // (5)  [T, H, v]
}

}  // namespace hadal::model
