#include "hadal/model/transformer.h"

#include <set>

namespace hadal::model {

std::vector<TokenId> all_ids(std::span<const Segment> segments) {
  std::vector<TokenId> ids;
  for (const Segment& s : segments) ids.insert(ids.end(), s.ids.begin(), s.ids.end());
  return ids;
}

namespace {

// What the segments run; cache_of says which of a sequence's caches the pass extends.
template <class CacheOf>
std::vector<Pass::Run> runs(std::span<const Segment> segments, const CacheOf& cache_of) {
  std::vector<Pass::Run> all;
  for (const Segment& s : segments)
    all.push_back({static_cast<Index>(s.ids.size()), s.form, cache_of(s.state), s.to_come});
  return all;
}

}  // namespace

std::vector<Pass::Run> main_runs(std::span<const Segment> segments) {
  return runs(segments, [](SequenceState& s) -> KvCache& { return s.main; });
}

std::uint64_t cache_bytes(std::span<const Segment> segments) {
  std::set<const PagePool*> pools;
  for (const Segment& s : segments) {
    pools.insert(&s.state.main.pool());
    for (const KvCache& cache : s.state.mtp) pools.insert(&cache.pool());
  }
  std::uint64_t bytes = 0;
  for (const PagePool* pool : pools) bytes += pool->bytes();
  return bytes;
}

Transformer::Transformer(const Config& c) : Transformer(c, whole(c)) {}

Transformer::Transformer(const Config& c, const Part& held)
    : config(c),
      part(held),
      rotary(c),
      norm{.width = c.hidden_size, .eps = c.rms_norm_eps, .weight = {}},
      lm_head(make_linear(c, c.hidden_size, c.vocab_size / held.shards, ShardAxis::kOutputs)) {
  check_part(part, c);
  for (Index i = part.layers.begin; i < part.layers.end; ++i)
    if (i < c.num_hidden_layers)
      layers.emplace_back(c, c.is_moe_layer(i), part);
    else
      mtp.emplace_back(c, c.is_moe_layer(i), part);
}

CachePools Transformer::new_pools(DType cache_dtype, Index max_pages, std::uint64_t kept_bytes,
                                  DeviceMemory& memory) const {
  return {config, static_cast<Index>(mtp.size()), cache_dtype, max_pages, kept_bytes, memory};
}

TensorRef Transformer::hidden(Context& ctx, std::span<const Segment> segments) const {
  HADAL_CHECK(static_cast<Index>(layers.size()) == config.num_hidden_layers && part.shards == 1,
              "model: this process holds layers [{}, {}) and shard {} of {}, a forward pass needs all",
              part.layers.begin, part.layers.end, part.shard, part.shards);
  Pass pass(main_runs(segments), 0, *experts);
  ctx.workspace.reserve(need(ctx, pass).most());
  experts->begin_pass(ctx.workspace.allocated_bytes() + cache_bytes(segments));
  pass.set_rope(ctx, rotary);
  const TensorRef x = ctx.observe("embedding", ops::embedding(ctx, embed_tokens, all_ids(segments)));
  for (Index i = 0; i < config.num_hidden_layers; ++i) {
    ctx.observers.boundary(i);
    layers[static_cast<std::size_t>(i)].forward(ctx, x, pass, i);
    ctx.observe("hidden", x);
  }
  pass.finish();
  return ctx.observe("final_norm", norm.forward(ctx, x));
}

WorkspaceNeed Transformer::need(const Context& ctx, const Pass& pass) const {
  WorkspaceNeed need = ops::rope_table_need(static_cast<Index>(rotary.inv_freq.size()), pass.tokens());
  need.floats(pass.tokens() * config.hidden_size);
  for (std::size_t i = 0; i < layers.size(); ++i) need.within(layers[i].need(ctx, pass, static_cast<Index>(i)));
  need.floats(pass.tokens() * config.hidden_size);
  return need;
}

TensorRef Transformer::mtp_hidden(Context& ctx, Index depth, std::span<const Segment> next,
                                  const ConstTensorRef& previous) const {
  const auto d = static_cast<std::size_t>(depth);
  const Index layer = config.num_hidden_layers + depth;
  Pass pass(runs(next, [&](SequenceState& s) -> KvCache& { return s.mtp[d]; }), layer, *experts);
  pass.set_rope(ctx, rotary);
  ctx.observers.boundary(layer);
  const TensorRef embedded = ops::embedding(ctx, mtp[d].embed_tokens, all_ids(next));
  const TensorRef h = mtp[d].forward(ctx, embedded, previous, pass, layer);
  pass.finish();
  return h;
}

std::vector<ParamSpec> parameter_list(const Config& c) {
  std::vector<ParamSpec> list;
  Transformer(c).for_each_param(
      [&](const std::string& name, Weight&, const ParamInfo& info) { list.push_back({name, info}); });
  return list;
}

}  // namespace hadal::model
