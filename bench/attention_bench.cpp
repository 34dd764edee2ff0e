// Attention's core at Moonlight's widths (16 heads, 128 + 64, latent 512): one token at a depth, absorbed; a chunk of a
// prompt at its end, expanded.
#include <benchmark/benchmark.h>

#include "hadal/ops/attention.h"

namespace hadal {
namespace {

constexpr Index kHeads = 16, kNope = 128, kRope = 64, kValue = 128, kLatent = 512;

TensorRef numbers(Context& ctx, Shape shape) {
  const TensorRef t = ctx.workspace.floats(shape);
  for (Index i = 0; i < t.num_elements(); ++i) t.data<float>()[i] = static_cast<float>(i % 23 - 11) * 0.05f;
  return t;
}

void rate(benchmark::State& state, Index multiply_adds) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      2e-9 * static_cast<double>(multiply_adds) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void absorbed(benchmark::State& state) {
  const Index depth = state.range(0);
  Context ctx;
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef q = numbers(ctx, {1, kHeads, kLatent}), q_pe = numbers(ctx, {1, kHeads, kRope});
  const auto pages = ops::pages_of(numbers(ctx, {depth, kLatent + kRope}));
  const ops::CachedRows rows{.begin = 0, .end = 1, .first_position = depth - 1, .pages = pages};
  for (auto _ : state) {
    const Workspace::Scope result(ctx.workspace);
    benchmark::DoNotOptimize(ops::attend_absorbed(ctx, q, q_pe, std::span(&rows, 1), 0.07).raw());
  }
  rate(state, kHeads * depth * (2 * kLatent + kRope));
}
BENCHMARK(absorbed)->ArgName("depth")->Arg(128)->Arg(1024)->Arg(4096)->UseRealTime();

void expanded(benchmark::State& state) {
  const Index depth = state.range(0), tokens = state.range(1);
  Context ctx;
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef q = numbers(ctx, {tokens, kHeads, kNope + kRope}), kv = numbers(ctx, {depth, kHeads, kNope + kValue});
  const TensorRef k_pe = numbers(ctx, {depth, kRope}), out = ctx.workspace.floats({tokens, kHeads, kValue});
  for (auto _ : state) ops::attend_expanded(ctx, q, kv, k_pe, depth - tokens, 0.07, out);
  const Index pairs = tokens * (depth - tokens) + tokens * (tokens + 1) / 2;
  rate(state, kHeads * pairs * (kNope + kRope + kValue));
}
BENCHMARK(expanded)->ArgNames({"depth", "tokens"})->Args({256, 256})->Args({2048, 256})->UseRealTime();

}  // namespace
}  // namespace hadal
