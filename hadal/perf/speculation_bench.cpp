#include "hadal/perf/speculation_bench.h"

#include "hadal/infer/engine.h"

namespace hadal::perf {
namespace {

double bytes_of_weight(const weights::Weight& weight) {
  double bytes = 0;
  for (const ConstTensorRef& part : {weight.any_form(), weight.any_scale(), weight.any_zero()})
    if (part) bytes += static_cast<double>(part.num_bytes());
  return bytes;
}

// Bytes of weights that passes read, those of the main model and of the MTP layer apart.
class BytesRead : public Observer {
 public:
  explicit BytesRead(model::Transformer& t)
      : main_layers_(t.config.num_hidden_layers), touched_(static_cast<std::size_t>(t.config.num_stored_layers())) {
    const auto experts = static_cast<double>(t.config.n_routed_experts);
    expert_bytes_.resize(touched_.size());
    t.for_each_param([&](const std::string&, weights::Weight& w, const weights::ParamInfo& info) {
      if (info.role == weights::ParamRole::kEmbedding) return;
      if (info.routed_expert)
        expert_bytes_[static_cast<std::size_t>(info.layer)] += bytes_of_weight(w) / experts;
      else
        (info.layer >= main_layers_ ? mtp_once_ : main_once_) += bytes_of_weight(w);
    });
  }

  void on_boundary(Index layer) override {
    layer_ = layer;
    if (layer == 0) ++passes_, main_ += main_once_;
    if (layer == main_layers_) mtp_ += mtp_once_;
    if (layer >= 0) touched_[static_cast<std::size_t>(layer)].clear();
  }
  void on_value(std::string_view name, const ConstTensorRef& value) override {
    if (name != "topk_idx") return;
    const auto chosen = value.view<std::int32_t, 2>();
    const auto layer = static_cast<std::size_t>(layer_);
    for (Index t = 0; t < chosen.shape[0]; ++t)
      for (Index s = 0; s < chosen.shape[1]; ++s)
        if (touched_[layer].insert(chosen(t, s)).second)
          (layer_ >= main_layers_ ? mtp_ : main_) += expert_bytes_[layer];
  }

  double main_a_pass() const { return main_ / static_cast<double>(passes_); }
  double mtp_a_pass() const { return mtp_ / static_cast<double>(passes_); }

 private:
  Index main_layers_, layer_ = -1, passes_ = 0;
  double main_once_ = 0, mtp_once_ = 0, main_ = 0, mtp_ = 0;
  std::vector<double> expert_bytes_;      // of one expert of each layer
  std::vector<std::set<Index>> touched_;  // in the pass that runs
};

infer::Request request_of(const config::Config& c, const SpeculationCase& what, const RunOptions& o) {
  infer::Request request;
  request.prompt = random_ids(2, c.vocab_size, o.seed);
  request.sampling.temperature = 0;
  request.max_tokens = what.steps + 1;
  return request;
}

double tokens_a_second(infer::Engine& engine, const infer::Request& request, const RunOptions& o) {
  engine.reset();
  const infer::Completion done = engine.generate(request, [&](const infer::Sample&) {
    o.poll();
    return infer::Continue::kYes;
  });
  o.poll();
  return static_cast<double>(done.tokens.size() - 1) / done.decode_seconds;
}

std::string describe_case(const Context& ctx, const SpeculationCase& what, const RunOptions& o) {
  return fmt::format("speculate={} drafts={} acceptance={} {}", infer::speculate_name(what.speculate),
                     what.drafts == 0 ? "auto" : std::to_string(what.drafts),
                     what.acceptance ? fmt::format("{}", *what.acceptance) : "own", perf::describe(ctx, o.cache_dtype));
}

}  // namespace

Row speculative_decode(Context& ctx, stream::LoadedModel& model, const SpeculationCase& what,
                       const RunOptions& options) {
  model::Transformer& t = model.transformer;
  infer::EngineOptions engine_options{.cache_dtype = options.cache_dtype};
  infer::Engine plain(ctx, t, engine_options);
  engine_options.speculate = what.speculate;
  engine_options.fixed_drafts = what.drafts;
  engine_options.simulated_acceptance = what.acceptance;
  infer::Engine speculative(ctx, t, engine_options);
  const infer::Request request = request_of(t.config, what, options);

  BytesRead plain_bytes(t), bytes(t);
  {
    const Observers::Watch watch(ctx.observers, plain_bytes);
    tokens_a_second(plain, request, options);
  }
  {
    const Observers::Watch watch(ctx.observers, bytes);
    tokens_a_second(speculative, request, options);
  }
  std::vector<double> with, without, gains;
  for (Index run = 0; run < options.runs; ++run) {
    without.push_back(tokens_a_second(plain, request, options));
    with.push_back(tokens_a_second(speculative, request, options));
    gains.push_back(with.back() / without.back());
  }
  const infer::SpeculationStats& s = speculative.speculation();
  const double tokens_a_step = s.steps > 0 ? static_cast<double>(s.tokens) / static_cast<double>(s.steps) : 1;
  Row row{.unit = "tok/s", .value = spread_of(with)};
  row.name = "decode " + describe_case(ctx, what, options);
  row.bytes = bytes.main_a_pass() + bytes.mtp_a_pass();
  row.rates = {{"plain", spread_of(without).median},
               {"speed-up", spread_of(gains).median},
               {"tokens-a-step", tokens_a_step},
               {"bytes-ratio", bytes.main_a_pass() / plain_bytes.main_a_pass()},
               {"draft-share", bytes.mtp_a_pass() / plain_bytes.main_a_pass()}};
  if (what.acceptance) {
    row.limit = row.rates["plain"] * tokens_a_step / (row.rates["bytes-ratio"] + row.rates["draft-share"]);
    row.limited_by = "bytes";
  }
  return row;
}

}  // namespace hadal::perf
