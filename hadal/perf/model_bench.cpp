#include "hadal/perf/model_bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "hadal/core/random.h"
#include "hadal/infer/engine.h"

namespace hadal::perf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Index kFillRows = 256;

double cache_value_bytes(DType dtype) {
  return static_cast<double>(dtype_bytes(dtype));
}

// Entries as if `depth` tokens had been there: how long attention takes does not depend on their values.
void fill(Context& ctx, const model::Config& c, model::KvCache& cache, Index depth, std::uint64_t seed) {
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef entries = ctx.workspace.floats({std::min(kFillRows, depth), c.kv_cache_width()});
  const Philox random(seed, 1);
  for (Index i = 0; i < entries.num_elements(); ++i)
    entries.data<float>()[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1);
  while (cache.length() < depth) {
    const Index count = std::min(kFillRows, depth - cache.length());
    cache.reserve(count);
    for (Index layer = 0; layer < c.num_hidden_layers; ++layer) cache.write(ctx, layer, entries.rows(0, count));
    cache.advance(count, model::Form::kExpanded);
  }
}

// Sequences at one depth and the tokens of every step.
struct DecodeSetting {
  std::vector<model::SequenceState> states;
  std::vector<model::SequenceState*> pointers;
  std::vector<TokenId> ids;  // [steps, sequences]
  DecodeCase what;

  DecodeSetting(Context& ctx, const model::Transformer& t, const DecodeCase& decode_case, const RunOptions& o)
      : ids(random_ids(decode_case.steps * decode_case.sequences, t.config.vocab_size, o.seed)), what(decode_case) {
    for (Index i = 0; i < what.sequences; ++i) {
      states.push_back(t.new_sequence(what.depth + what.steps, o.cache_dtype));
      if (what.depth > 0) fill(ctx, t.config, states.back().main, what.depth, o.seed);
    }
    for (auto& state : states) pointers.push_back(&state);
  }

  std::span<const TokenId> step(Index i) const {
    return std::span(ids).subspan(static_cast<std::size_t>(i * what.sequences),
                                  static_cast<std::size_t>(what.sequences));
  }
  void rewind() {
    for (auto& state : states) state.main.truncate(what.depth);
  }
};

// Runs the steps once and counts what each had to do; warms caches and maps pages by the way.
PassWork count_steps(Context& ctx, const model::Transformer& t, const ModelWork& work, DecodeSetting& s,
                     const RunOptions& o) {
  PassWork sum;
  TouchedExperts touched(t.config);
  for (Index i = 0; i < s.what.steps; ++i) {
    o.poll();
    const Workspace::Scope scope(ctx.workspace);
    touched.clear();
    decode_step(ctx, t, s.pointers, s.step(i), touched.trace());
    const std::vector<Index> visible(s.states.size(), s.what.depth + i + 1);
    sum += work.decode_step(visible, touched, cache_value_bytes(o.cache_dtype));
  }
  s.rewind();
  return sum;
}

double time_steps(Context& ctx, const model::Transformer& t, DecodeSetting& s, const RunOptions& o) {
  const infer::Sampler sampler({.temperature = 0}, static_cast<TokenId>(t.config.vocab_size));
  const auto start = Clock::now();
  for (Index i = 0; i < s.what.steps; ++i) {
    o.poll();
    const Workspace::Scope scope(ctx.workspace);
    const TensorRef logits = decode_step(ctx, t, s.pointers, s.step(i));
    const PhaseScope phase(ctx.phases, Phase::kSampling);
    const auto width = static_cast<std::size_t>(logits.size(1));
    for (Index row = 0; row < logits.size(0); ++row)
      sampler.sample({logits.data<float>() + row * logits.stride(0), width}, {}, {}, 0, static_cast<std::uint64_t>(i));
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  s.rewind();
  return seconds;
}

PassWork count_prompt(Context& ctx, const model::Transformer& t, const ModelWork& work, std::span<const TokenId> ids,
                      const RunOptions& o) {
  TouchedExperts touched(t.config);
  const auto length = static_cast<Index>(ids.size());
  model::SequenceState state = t.new_sequence(length, o.cache_dtype);
  for (Index done = 0; done < length; done += o.chunk) {
    o.poll();
    const Workspace::Scope scope(ctx.workspace);
    const auto count = static_cast<std::size_t>(std::min(o.chunk, length - done));
    t.hidden(ctx, ids.subspan(static_cast<std::size_t>(done), count), model::Form::kExpanded, state, touched.trace());
  }
  return work.prompt(length, touched);
}

double time_prompt(infer::Engine& engine, const infer::Request& request, const RunOptions& o) {
  engine.reset();
  const auto on_prompt = [&](Index, Index) {
    o.poll();
    return true;
  };
  return engine.generate(request, {}, on_prompt).prompt_seconds;
}

void set_work(Row& row, const PassWork& work, double passes) {
  row.bytes = work.linears().bytes / passes;
  row.flops = work.linears().flops / passes;
  row.attention_flops = work[Phase::kAttention].flops / passes;
  row.cache_bytes = work[Phase::kAttention].bytes / passes;
}

// `tokens` in the time of `work`. `attention` is the loop that attention's core is held against, if not the one of the
// linears.
void set_limits(Row& row, const LimitMeter& meter, const PassWork& work, double tokens, const Context& ctx,
                const Loop* attention) {
  for (const Loop& loop : meter.loops()) row.rates[loop.name()] = meter.rate(loop) * 1e-9;
  const Loop read = read_loop_of(ctx.isa), compute = compute_loop_of(ctx.isa, ctx.activations);
  const auto roofline = [&](const Loop& arithmetic) {
    return Roofline{meter.rate(read), meter.rate(arithmetic), meter.rate(attention ? *attention : arithmetic)};
  };
  row.limit = tokens / roofline(compute).seconds(work);
  row.limited_by = roofline(compute).reading(work) ? read.name() : compute.name();
  for (const Loop& loop : meter.loops())
    if (loop.kind != LoopKind::kRead && !roofline(loop).reading(work))
      row.ratios[loop.name()] = row.value.median / (tokens / roofline(loop).seconds(work));
}

// The loops that rows of this context need: its own, and arithmetic of every kind that the machine has.
std::vector<Loop> loops_for(const Context& ctx) {
  std::vector<Loop> loops = {read_loop_of(ctx.isa), fma_loop_of(ctx.isa)};
  for (const Loop& loop : loops_up_to(best_isa()))
    if (loop.kind != LoopKind::kRead && loop.isa != Isa::kRef) loops.push_back(loop);
  return loops;
}

}  // namespace

double Roofline::seconds(const PassWork& work) const {
  const Work linears = work.linears(), core = work[Phase::kAttention];
  return std::max(linears.bytes / read_rate, linears.flops / compute_rate) +
         std::max(core.bytes / read_rate, core.flops / attention_rate);
}

bool Roofline::reading(const PassWork& work) const {
  return work.linears().bytes / read_rate > work.linears().flops / compute_rate;
}

TensorRef decode_step(Context& ctx, const model::Transformer& transformer,
                      std::span<model::SequenceState* const> states, std::span<const TokenId> tokens,
                      const model::Trace& trace) {
  const TensorRef logits =
      ctx.workspace.floats({static_cast<Index>(states.size()), transformer.lm_head.weight.num_rows()});
  for (std::size_t i = 0; i < states.size(); ++i) {
    const Workspace::Scope scope(ctx.workspace);
    const TensorRef row = transformer.logits(
        ctx, transformer.hidden(ctx, tokens.subspan(i, 1), model::Form::kAbsorbed, *states[i], trace));
    std::memcpy(logits.rows(static_cast<Index>(i), static_cast<Index>(i) + 1).raw(), row.raw(),
                static_cast<std::size_t>(row.num_bytes()));
  }
  return logits;
}

const ReadTarget& ModelBench::memory() {
  if (!memory_) memory_.emplace(model_);
  return *memory_;
}

Row ModelBench::decode(Context& ctx, const DecodeCase& what, const RunOptions& options) {
  const model::Transformer& t = model_.transformer;
  HADAL_CHECK(what.depth + what.steps <= t.config.max_position_embeddings,
              "depth: {} and {} steps are more than the model's context of {} (max_position_embeddings)", what.depth,
              what.steps, t.config.max_position_embeddings);
  DecodeSetting setting(ctx, t, what, options);
  const PassWork work = count_steps(ctx, t, work_, setting, options);
  LimitMeter meter(ctx, memory(), loops_for(ctx));
  const double tokens = static_cast<double>(what.steps * what.sequences);
  std::vector<double> speeds;
  for (Index run = 0; run < options.runs; ++run) {
    meter.sample();
    speeds.push_back(tokens / time_steps(ctx, t, setting, options));
  }
  Row row{.unit = "tok/s", .value = spread_of(speeds)};
  row.name = fmt::format("decode depth={} batch={} {}", what.depth, what.sequences, describe(ctx, options.cache_dtype));
  set_work(row, work, static_cast<double>(what.steps));
  const Loop attention = fma_loop_of(ctx.isa);
  set_limits(row, meter, work, tokens, ctx, &attention);
  return row;
}

Row ModelBench::prompt(Context& ctx, Index length, const RunOptions& options) {
  const model::Transformer& t = model_.transformer;
  HADAL_CHECK(length <= t.config.max_position_embeddings,
              "length: {} is more than the model's context of {} (max_position_embeddings)", length,
              t.config.max_position_embeddings);
  infer::Request request;
  request.prompt = random_ids(length, t.config.vocab_size, options.seed);
  request.sampling.temperature = 0;
  request.max_tokens = 1;
  const PassWork work = count_prompt(ctx, t, work_, request.prompt, options);
  infer::Engine engine(ctx, t, {.context = length, .chunk = options.chunk, .cache_dtype = options.cache_dtype});
  LimitMeter meter(ctx, memory(), loops_for(ctx));
  std::vector<double> speeds;
  for (Index run = 0; run < options.runs; ++run) {
    meter.sample();
    speeds.push_back(static_cast<double>(length) / time_prompt(engine, request, options));
  }
  Row row{.unit = "tok/s", .value = spread_of(speeds)};
  row.name = fmt::format("prompt length={} {}", length, describe(ctx, options.cache_dtype));
  set_work(row, work, 1);
  set_limits(row, meter, work, static_cast<double>(length), ctx, nullptr);
  return row;
}

std::string describe(const Context& ctx, DType cache_dtype) {
  return fmt::format("threads={} isa={} activations={} kv={}", ctx.threads.num_threads(), isa_name(ctx.isa),
                     activations_name(ctx.activations), cache_dtype == DType::kF32 ? "f32" : "bf16");
}

std::vector<TokenId> random_ids(Index count, Index vocab_size, std::uint64_t seed) {
  const Philox random(seed, 0);
  std::vector<TokenId> ids;
  for (Index i = 0; i < count; ++i)
    ids.push_back(
        static_cast<TokenId>(random.uniform(static_cast<std::uint64_t>(i)) * static_cast<double>(vocab_size)));
  return ids;
}

}  // namespace hadal::perf
