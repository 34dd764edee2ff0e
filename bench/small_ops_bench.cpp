// What lies between the linears: RMSNorm, the gate, and the barrier of the thread pool that ends each of them.
#include <benchmark/benchmark.h>

#include "hadal/ops/elementwise.h"
#include "hadal/ops/experts.h"

namespace hadal {
namespace {

TensorRef numbers(Context& ctx, Shape shape) {
  const TensorRef t = ctx.workspace.floats(shape);
  for (Index i = 0; i < t.num_elements(); ++i) t.data<float>()[i] = static_cast<float>(i * 37 % 101 - 50) * 0.02f;
  return t;
}

void rms_norm(benchmark::State& state) {
  Context ctx;
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef x = numbers(ctx, {state.range(0), state.range(1)}), weight = numbers(ctx, {state.range(1)});
  for (auto _ : state) {
    const Workspace::Scope result(ctx.workspace);
    benchmark::DoNotOptimize(ops::rms_norm(ctx, x, weight, 1e-6).raw());
  }
}
BENCHMARK(rms_norm)->ArgNames({"rows", "width"})->Args({1, 2048})->Args({1, 7168})->Args({512, 2048})->UseRealTime();

// Experts and groups of Moonlight (64, 1) and of V3 (256, 8).
void gate(benchmark::State& state) {
  Context ctx;
  const Workspace::Scope scope(ctx.workspace);
  const Index experts = state.range(1), groups = state.range(2);
  const TensorRef logits = numbers(ctx, {state.range(0), experts}), bias = numbers(ctx, {experts});
  const ops::GateRule rule{
      .num_experts_per_tok = 8, .n_group = groups, .topk_group = groups > 1 ? 4 : 1, .group_best = 2};
  for (auto _ : state) {
    const Workspace::Scope result(ctx.workspace);
    benchmark::DoNotOptimize(ops::select_experts(ctx, logits, bias, rule).experts.raw());
  }
}
BENCHMARK(gate)
    ->ArgNames({"rows", "experts", "groups"})
    ->Args({1, 64, 1})
    ->Args({1, 256, 8})
    ->Args({512, 256, 8})
    ->UseRealTime();

// A parallel loop with nothing to do: waking and waiting alone.
void barrier(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const std::function<void(std::int64_t, std::int64_t)> nothing = [](std::int64_t, std::int64_t) {};
  for (auto _ : state) pool.parallel_for(pool.num_threads(), 1, nothing);
}
BENCHMARK(barrier)->ArgName("threads")->DenseRange(1, ThreadPool::available_cores())->UseRealTime();

}  // namespace
}  // namespace hadal
