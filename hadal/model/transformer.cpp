#include "hadal/model/transformer.h"

#include "hadal/model/expert_store.h"

namespace hadal::model {

Transformer::Transformer(const Config& c)
    : config(c),
      rotary(c),
      norm{.width = c.hidden_size, .eps = c.rms_norm_eps, .weight = {}},
      lm_head(make_linear(c, c.hidden_size, c.vocab_size)) {
  for (Index i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c, c.is_moe_layer(i));
  for (Index i = c.num_hidden_layers; i < c.num_stored_layers(); ++i) mtp.emplace_back(c, c.is_moe_layer(i));
}

std::uint64_t SequenceState::allocated_bytes() const {
  std::uint64_t bytes = main.allocated_bytes();
  for (const KvCache& cache : mtp) bytes += cache.allocated_bytes();
  return bytes;
}

SequenceState Transformer::new_sequence(Index capacity, DType cache_dtype) const {
  SequenceState state{.main = KvCache(config, config.num_hidden_layers, capacity, cache_dtype), .mtp = {}};
  for (std::size_t depth = 0; depth < mtp.size(); ++depth) state.mtp.emplace_back(config, 1, capacity, cache_dtype);
  return state;
}

TensorRef Transformer::hidden(Context& ctx, std::span<const TokenId> ids, Form form, SequenceState& state,
                              const Trace& trace) const {
  const auto count = static_cast<Index>(ids.size());
  state.main.reserve(count);
  if (store) store->begin_pass(state.allocated_bytes() + ctx.workspace.allocated_bytes());
  const Positions at{.first = state.main.length(),
                     .form = form,
                     .rope = ops::rope_table(ctx, rotary.inv_freq, state.main.length(), count, rotary.magnitude)};
  const TensorRef x = ops::embedding(ctx, embed_tokens, ids);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto layer = static_cast<Index>(i);
    layers[i].forward(ctx, x, at, state.main, layer, trace.layer(layer));
    trace.layer(layer)("hidden", x);
  }
  state.main.advance(count, form);
  return norm.forward(ctx, x);
}

TensorRef Transformer::mtp_hidden(Context& ctx, Index depth, std::span<const TokenId> next_ids,
                                  const TensorRef& previous, Form form, SequenceState& state,
                                  const Trace& trace) const {
  const auto count = static_cast<Index>(next_ids.size());
  const Mtp& module = mtp[static_cast<std::size_t>(depth)];
  KvCache& cache = state.mtp[static_cast<std::size_t>(depth)];
  cache.reserve(count);
  const Positions at{.first = cache.length(),
                     .form = form,
                     .rope = ops::rope_table(ctx, rotary.inv_freq, cache.length(), count, rotary.magnitude)};
  const TensorRef h = module.forward(ctx, ops::embedding(ctx, module.embed_tokens, next_ids), previous, at, cache,
                                     trace.layer(config.num_hidden_layers + depth));
  cache.advance(count, form);
  return h;
}

std::vector<ParamSpec> parameter_list(const Config& c) {
  std::vector<ParamSpec> list;
  Transformer(c).for_each_param(
      [&](const std::string& name, Weight&, const ParamInfo& info) { list.push_back({name, info}); });
  return list;
}

}  // namespace hadal::model
