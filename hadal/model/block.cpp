#include "hadal/model/block.h"

namespace hadal::model {
namespace {

RmsNorm make_norm(const Config& c) {
  return {.width = c.hidden_size, .eps = c.rms_norm_eps, .weight = {}};
}

}  // namespace

Block::Block(const Config& c, bool is_moe)
    : input_layernorm(make_norm(c)), post_attention_layernorm(make_norm(c)), self_attn(c) {
  if (is_moe)
    moe.emplace(c);
  else
    mlp.emplace(c, c.intermediate_size);
}

void Block::forward(Context& ctx, const TensorRef& x, const Positions& at, Index layer, const Trace& trace) const {
  PhaseScope phase(ctx.phases, Phase::kNorms);
  {
    const Workspace::Scope scope(ctx.workspace);
    ops::add_in_place(ctx, x, self_attn.forward(ctx, input_layernorm.forward(ctx, x), at, layer, trace));
  }
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef u = post_attention_layernorm.forward(ctx, x);
  // The router of the next layer, on what there is of its input by now: attention has been added, this layer's
  // feed-forward and the next attention have not.
  const auto look_ahead = [&] {
    const Workspace::Scope guess(ctx.workspace);
    if (next) next->moe->prefetch(ctx, next->post_attention_layernorm.forward(ctx, x));
  };
  if (mlp) look_ahead();
  if (mlp) phase.enter(Phase::kFeedForward);
  ops::add_in_place(ctx, x, moe ? moe->forward(ctx, u, trace, look_ahead) : mlp->forward(ctx, u));
}

Mtp::Mtp(const Config& c, bool is_moe)
    : enorm(make_norm(c)),
      hnorm(make_norm(c)),
      eh_proj(make_linear(c, 2 * c.hidden_size, c.hidden_size)),
      block(c, is_moe),
      shared_head{.norm = make_norm(c), .head = make_linear(c, c.hidden_size, c.vocab_size)},
      vocab_size(c.vocab_size),
      hidden_size(c.hidden_size) {}

TensorRef Mtp::forward(Context& ctx, const TensorRef& embedded, const TensorRef& previous, const Positions& at,
                       const Trace& trace) const {
  const TensorRef x =
      eh_proj.forward(ctx, ops::concatenate(ctx, enorm.forward(ctx, embedded), hnorm.forward(ctx, previous)));  // (21)
  block.forward(ctx, x, at, 0, trace);                                                                          // (22)
  const TensorRef h = shared_head.norm.forward(ctx, x);
  trace("hidden_normed", h);
  return h;
}

}  // namespace hadal::model
