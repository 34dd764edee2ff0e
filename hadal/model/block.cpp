#include "hadal/model/block.h"

namespace hadal::model {
namespace {

RmsNorm make_norm(const Config& c) {
  return {.width = c.hidden_size, .eps = c.rms_norm_eps, .weight = {}};
}

}  // namespace

Block::Block(const Config& c, bool is_moe, const Part& part)
    : input_layernorm(make_norm(c)), post_attention_layernorm(make_norm(c)), self_attn(c, part.shards) {
  if (is_moe)
    moe.emplace(c, part);
  else
    mlp.emplace(c, c.intermediate_size, part.shards);
}

void Block::forward(Context& ctx, const TensorRef& x, const Pass& pass, Index layer) const {
  {
    const Workspace::Scope scope(ctx.workspace);
    const TensorRef h = ctx.observe("attn_norm", input_layernorm.forward(ctx, x));
    ops::add_in_place(ctx, x, self_attn.forward(ctx, h, pass, layer));
  }
  pass.experts.approach(ctx, layer, x);
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef u = ctx.observe("ffn_norm", post_attention_layernorm.forward(ctx, x));
  ops::add_in_place(ctx, x, moe ? moe->forward(ctx, u, pass.experts, layer) : mlp->forward(ctx, u));
}

WorkspaceNeed Block::need(const Context& ctx, const Pass& pass, Index layer) const {
  const Index tokens = pass.tokens();
  WorkspaceNeed attention, feed_forward, need;
  attention.floats(tokens * input_layernorm.width);
  attention.then(self_attn.need(ctx, pass, layer));
  feed_forward.floats(tokens * post_attention_layernorm.width);
  feed_forward.then(moe ? moe->need(ctx, tokens, pass.experts, layer) : mlp->need(ctx, tokens));
  need.within(attention);
  need.within(pass.experts.approach_need(ctx, tokens, layer));
  need.within(feed_forward);
  return need;
}

Mtp::Mtp(const Config& c, bool is_moe, const Part& part)
    : enorm(make_norm(c)),
      hnorm(make_norm(c)),
      eh_proj(make_linear(c, 2 * c.hidden_size, c.hidden_size)),
      block(c, is_moe, part),
      shared_head{.norm = make_norm(c), .head = make_linear(c, c.hidden_size, c.vocab_size / part.shards, ShardAxis::kOutputs)},
      vocab_size(c.vocab_size / part.shards),
      hidden_size(c.hidden_size) {}

TensorRef Mtp::join(Context& ctx, const ConstTensorRef& embedded, const ConstTensorRef& previous) const {
  return eh_proj.forward(ctx,
                         ops::concatenate(ctx, enorm.forward(ctx, embedded), hnorm.forward(ctx, previous)));  // (21)
}

TensorRef Mtp::forward(Context& ctx, const ConstTensorRef& embedded, const ConstTensorRef& previous, const Pass& pass,
                       Index layer) const {
  const TensorRef x = join(ctx, embedded, previous);  // (21)
  block.forward(ctx, x, pass, layer);                 // (22)
  return ctx.observe("hidden_normed", shared_head.norm.forward(ctx, x));
}

}  // namespace hadal::model
