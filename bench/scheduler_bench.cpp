// What a step of the engine costs beside the model: the scheduler's decisions alone, and all that the engine does of a
// step before the embedding and behind the sampler. HADAL_MODEL names a model directory (default models/mini).
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>

#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal::infer {
namespace {

using Clock = std::chrono::steady_clock;

// So many sequences decode, so many requests of 8 tenants wait.
void scheduler(benchmark::State& state) {
  const auto running = static_cast<RequestId>(state.range(0)), waiting = static_cast<RequestId>(state.range(1));
  Schedule schedule{.limits = {.sequences = state.range(0)}};
  for (RequestId id = 1; id <= running + waiting; ++id) {
    submit(schedule, {.id = id, .prompt = 100, .tenant = id % 8});
    if (id > running) continue;
    begin(schedule, 100);
    sampled(schedule, id, 101, 100);
  }
  Index known = 101;
  for (auto _ : state) {
    benchmark::DoNotOptimize(can_begin(schedule));
    const std::vector<Run> pass = next_pass(schedule);
    ran(schedule, pass);
    ++known;
    for (const Run& run : pass) sampled(schedule, run.id, known, known - 1);
  }
}
BENCHMARK(scheduler)->ArgNames({"running", "waiting"})->Args({64, 0})->Args({64, 1000})->Args({256, 4000});

// When the model has the step, and when it gives it back.
struct ModelTime : Observer {
  Clock::time_point begin, end;
  void on_value(std::string_view name, const ConstTensorRef&) override {
    if (name == "embedding") begin = Clock::now();
    if (name == "sampled") end = Clock::now();
  }
};

void engine(benchmark::State& state) {
  const char* named = std::getenv("HADAL_MODEL");
  Context ctx;
  const stream::LoadedModel model = stream::load_model(named ? named : "models/mini", {.ctx = &ctx, .rearrange = true});
  ModelTime model_time;
  const Observers::Watch watch(ctx.observers, model_time);
  Engine engine(ctx, model.transformer, {.sequences = state.range(0)});
  const Index tokens = engine.context() - 2;
  const auto fill = [&] {
    for (Index i = engine.unfinished(); i < state.range(0); ++i)
      engine.submit({.prompt = {TokenId(3 + i)}, .sampling = {.temperature = 0}, .max_tokens = tokens});
    engine.step();
    engine.step();
  };
  fill();
  for (auto _ : state) {
    const auto begin = Clock::now();
    benchmark::DoNotOptimize(engine.step().size());
    const auto end = Clock::now();
    state.SetIterationTime(std::chrono::duration<double>((model_time.begin - begin) + (end - model_time.end)).count());
    if (engine.unfinished() < state.range(0)) fill();
  }
}
BENCHMARK(engine)->ArgNames({"sequences"})->Arg(1)->Arg(64)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace hadal::infer
