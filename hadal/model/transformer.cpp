#include "hadal/model/transformer.h"


namespace hadal::model {
namespace {

std::vector<TokenId> all_ids(std::span<const Segment> segments) {
  std::vector<TokenId> ids;
  for (const Segment& s : segments) ids.insert(ids.end(), s.ids.begin(), s.ids.end());
  return ids;
}

// Lays the segments' rows one after another, makes room for them and finds their positions; cache_of says which of a
// sequence's caches the pass extends.
template <class CacheOf>
Positions place(Context& ctx, const Rotary& rotary, std::span<const Segment> segments, Form form,
                const CacheOf& cache_of) {
  Positions at{.form = form, .sequences = {}, .rope = {}};
  std::vector<Index> positions;
  for (const Segment& s : segments) {
    KvCache& cache = cache_of(s.state);
    const auto begin = static_cast<Index>(positions.size()), count = static_cast<Index>(s.ids.size());
    cache.reserve(count);
    at.sequences.push_back({begin, begin + count, cache});
    for (Index i = 0; i < count; ++i) positions.push_back(cache.length() + i);
  }
  at.rope = ops::rope_table(ctx, rotary.inv_freq, positions, rotary.magnitude);
  return at;
}

void advance(const Positions& at) {
  for (const SequenceRows& s : at.sequences) s.cache.advance(s.end - s.begin, at.form);
}

}  // namespace

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

TensorRef Transformer::hidden(Context& ctx, std::span<const Segment> segments, Form form, const Trace& trace) const {
  PhaseScope phase(ctx.phases, Phase::kEmbedding);
  if (store) {
    std::size_t held = ctx.workspace.allocated_bytes();
    for (const Segment& s : segments) held += s.state.allocated_bytes();
    stream::begin_pass(*store, held);
  }
  const Positions at = place(ctx, rotary, segments, form, [](SequenceState& state) -> KvCache& { return state.main; });
  const TensorRef x = ops::embedding(ctx, embed_tokens, all_ids(segments));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (ctx.poll) ctx.poll();
    const auto layer = static_cast<Index>(i);
    layers[i].forward(ctx, x, at, layer, trace.layer(layer));
    trace.layer(layer)("hidden", x);
  }
  advance(at);
  phase.enter(Phase::kNorms);
  return norm.forward(ctx, x);
}

TensorRef Transformer::mtp_hidden(Context& ctx, Index depth, std::span<const Segment> next, const TensorRef& previous,
                                  Form form, const Trace& trace) const {
  const auto d = static_cast<std::size_t>(depth);
  const Positions at = place(ctx, rotary, next, form, [&](SequenceState& state) -> KvCache& { return state.mtp[d]; });
  const TensorRef embedded = ops::embedding(ctx, mtp[d].embed_tokens, all_ids(next));
  const TensorRef h = mtp[d].forward(ctx, embedded, previous, at, trace.layer(config.num_hidden_layers + depth));
  advance(at);
  return h;
}

std::vector<ParamSpec> parameter_list(const Config& c) {
  std::vector<ParamSpec> list;
  Transformer(c).for_each_param(
      [&](const std::string& name, Weight&, const ParamInfo& info) { list.push_back({name, info}); });
  return list;
}

}  // namespace hadal::model
