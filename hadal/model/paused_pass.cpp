#include "hadal/model/paused_pass.h"

#include "hadal/core/transfer.h"

namespace hadal::model {

PausedPass::PausedPass(Context& ctx, const Transformer& transformer, std::span<const Segment> segments)
    : transformer_(transformer),
      ids_(all_ids(segments)),
      cache_bytes_(cache_bytes(segments)),
      pass_(main_runs(segments), 0, *transformer.experts),
      need_(transformer.need(ctx, pass_).most()),
      x_(DType::kF32, {pass_.tokens(), transformer.config.hidden_size}, ctx.memory) {}

bool PausedPass::run(Context& ctx, const std::function<bool()>& go_on) {
  const Workspace::Scope scope(ctx.workspace);
  ctx.workspace.reserve(need_);
  transformer_.experts->begin_pass(ctx.workspace.allocated_bytes() + cache_bytes_ +
                                   static_cast<std::uint64_t>(x_->num_bytes()));
  pass_.set_rope(ctx, transformer_.rotary);
  if (next_ == 0) {
    const TensorRef embedded = ops::embedding(ctx, transformer_.embed_tokens, ids_);
    transfer(ctx.memory, ctx.observe("embedding", embedded), x_);
  }
  const auto layers = static_cast<Index>(transformer_.layers.size());
  do {
    ctx.observers.boundary(next_);
    transformer_.layers[static_cast<std::size_t>(next_)].forward(ctx, x_, pass_, next_);
    ctx.observe("hidden", x_);
    ++next_;
  } while (next_ < layers && go_on());
  if (next_ < layers) return false;
  pass_.finish();
  return true;
}

TensorRef PausedPass::hidden(Context& ctx) const {
  return ctx.observe("final_norm", transformer_.norm.forward(ctx, x_));
}

}  // namespace hadal::model
