#include "hadal/perf/model_bench.h"

#include <algorithm>
#include <chrono>

#include "hadal/core/random.h"
#include "hadal/core/transfer.h"
#include "hadal/infer/engine.h"
#include "hadal/perf/phases.h"

namespace hadal::perf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Index kFillRows = 256;

double cache_value_bytes(const model::KvCache& cache, const config::Config& c) {
  if (cache.dtype() != DType::kF8E4M3) return static_cast<double>(dtype_bytes(cache.dtype()));
  return static_cast<double>(cache.fp8_entry().bytes()) / static_cast<double>(c.kv_cache_width());
}

// Entries as if `depth` tokens had been there: how long attention takes does not depend on their values.
void fill(Context& ctx, const config::Config& c, model::KvCache& cache, Index depth, std::uint64_t seed) {
  const Workspace::Scope scope(ctx.workspace);
  const Tensor numbers(DType::kF32, {std::min(kFillRows, depth), c.kv_cache_width()});
  const Philox random(seed, 1);
  for (Index i = 0; i < numbers->num_elements(); ++i)
    numbers->data<float>()[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1);
  const TensorRef entries = to_device(ctx, numbers);
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
  const Observers::Watch watch(ctx.observers, touched);
  for (Index i = 0; i < s.what.steps; ++i) {
    o.poll();
    const Workspace::Scope scope(ctx.workspace);
    touched.clear();
    decode_step(ctx, t, s.pointers, s.step(i));
    const std::vector<Index> visible(s.states.size(), s.what.depth + i + 1);
    sum += work.decode_step(visible, touched, cache_value_bytes(s.states[0].main, t.config));
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
    const OnHost logits(ctx, decode_step(ctx, t, s.pointers, s.step(i)));
    const auto rows = logits->view<float, 2>();
    ctx.threads.parallel_for(rows.shape[0], 1, [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row)
        sampler.sample({rows.row(row), static_cast<std::size_t>(rows.shape[1])}, {}, {}, 0,
                       static_cast<std::uint64_t>(i));
    });
    ctx.observe("sampled", *logits);
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  s.rewind();
  return seconds;
}

PassWork count_prompt(Context& ctx, const model::Transformer& t, const ModelWork& work, std::span<const TokenId> ids,
                      const RunOptions& o) {
  TouchedExperts touched(t.config);
  const Observers::Watch watch(ctx.observers, touched);
  const auto length = static_cast<Index>(ids.size());
  model::SequenceState state = t.new_sequence(length, o.cache_dtype);
  for (Index done = 0; done < length; done += o.chunk) {
    o.poll();
    const Workspace::Scope scope(ctx.workspace);
    const auto count = static_cast<std::size_t>(std::min(o.chunk, length - done));
    t.hidden(ctx, ids.subspan(static_cast<std::size_t>(done), count), model::Form::kExpanded, state);
  }
  return work.prompt(length, touched);
}

infer::Request random_request(Index length, Index vocab_size, const RunOptions& o) {
  infer::Request request;
  request.prompt = random_ids(length, vocab_size, o.seed);
  request.sampling.temperature = 0;
  request.max_tokens = 1;
  return request;
}

std::string describe(const Context& ctx, const DecodeCase& what, const RunOptions& o) {
  return fmt::format("depth={} batch={} {}", what.depth, what.sequences, perf::describe(ctx, o.cache_dtype));
}

infer::EngineOptions engine_options(const stream::LoadedModel& model, Index length, const RunOptions& o) {
  return {.context = length, .chunk = o.chunk, .cache_dtype = o.cache_dtype, .kept_bytes = model.kept_bytes};
}

double time_prompt(infer::Engine& engine, const infer::Request& request, const RunOptions& o) {
  engine.reset();
  const auto on_prompt = [&](Index, Index) {
    o.poll();
    return true;
  };
  const double seconds = engine.generate(request, {}, on_prompt).prompt_seconds;
  o.poll();  // a cancelled prompt has no time
  return seconds;
}

}  // namespace

TensorRef decode_step(Context& ctx, const model::Transformer& transformer,
                      std::span<model::SequenceState* const> states, std::span<const TokenId> tokens) {
  std::vector<model::Segment> segments;
  for (std::size_t i = 0; i < states.size(); ++i)
    segments.push_back({tokens.subspan(i, 1), *states[i], model::Form::kAbsorbed});
  return transformer.logits(ctx, transformer.hidden(ctx, segments));
}

const ReadTarget& ModelBench::memory() {
  if (!memory_) memory_.emplace(model_);
  return *memory_;
}

void ModelBench::check_depth(Index depth, Index steps) const {
  const Index context = model_.transformer.config.max_position_embeddings;
  HADAL_CHECK(depth + steps <= context,
              "depth: {} and {} steps are more than the model's context of {} (max_position_embeddings)", depth, steps,
              context);
}

void ModelBench::check_length(Index length) const {
  const Index context = model_.transformer.config.max_position_embeddings;
  HADAL_CHECK(length <= context, "length: {} is more than the model's context of {} (max_position_embeddings)", length,
              context);
}

Row ModelBench::decode(Context& ctx, const DecodeCase& what, const RunOptions& options) {
  check_depth(what.depth, what.steps);
  const model::Transformer& t = model_.transformer;
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
  row.name = fmt::format("decode {}", describe(ctx, what, options));
  set_work(row, work, static_cast<double>(what.steps));
  const Loop attention = fma_loop_of(ctx.numerics.isa);
  set_limits(row, meter, work, tokens, ctx, &attention);
  return row;
}

Row ModelBench::prompt(Context& ctx, Index length, const RunOptions& options) {
  check_length(length);
  const model::Transformer& t = model_.transformer;
  const infer::Request request = random_request(length, t.config.vocab_size, options);
  const PassWork work = count_prompt(ctx, t, work_, request.prompt, options);
  infer::Engine engine(ctx, t, engine_options(model_, length, options));
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

std::vector<Row> ModelBench::decode_phases(Context& ctx, const DecodeCase& what, const RunOptions& options) {
  check_depth(what.depth, what.steps);
  const model::Transformer& t = model_.transformer;
  DecodeSetting setting(ctx, t, what, options);
  const PassWork work = count_steps(ctx, t, work_, setting, options);
  LimitMeter meter(ctx, memory(), loops_for(ctx));
  PhaseMeter phases(ctx);
  for (Index run = 0; run < options.runs; ++run) {
    meter.sample();
    phases.sample([&] { time_steps(ctx, t, setting, options); });
  }
  return phases.rows("decode", describe(ctx, what, options), work, static_cast<double>(what.steps), meter,
                     fma_loop_of(ctx.numerics.isa));
}

std::vector<Row> ModelBench::prompt_phases(Context& ctx, Index length, const RunOptions& options) {
  check_length(length);
  const model::Transformer& t = model_.transformer;
  const infer::Request request = random_request(length, t.config.vocab_size, options);
  const PassWork work = count_prompt(ctx, t, work_, request.prompt, options);
  infer::Engine engine(ctx, t, engine_options(model_, length, options));
  LimitMeter meter(ctx, memory(), loops_for(ctx));
  PhaseMeter phases(ctx);
  for (Index run = 0; run < options.runs; ++run) {
    meter.sample();
    phases.sample([&] { time_prompt(engine, request, options); });
  }
  return phases.rows("prompt", fmt::format("length={} {}", length, describe(ctx, options.cache_dtype)), work, 1, meter,
                     compute_loop_of(ctx.numerics.isa, ctx.numerics.activations));
}

std::string describe(const Context& ctx, DType cache_dtype) {
  return fmt::format("threads={} isa={} activations={} kv={}", ctx.threads.num_threads(), isa_name(ctx.numerics.isa),
                     activations_name(ctx.numerics.activations),
                     cache_dtype == DType::kF32    ? "f32"
                     : cache_dtype == DType::kBF16 ? "bf16"
                                                   : "fp8");
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
