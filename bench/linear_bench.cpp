// Linears of the yardstick's shapes with one row (a product limited by memory) and with many (by arithmetic).
// Arguments: rows, outputs, inputs, whether FP8 or BF16. Weights rotate through 128 MiB, so they do not come from the
// caches.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "hadal/ops/linear.h"

namespace hadal {
namespace {

constexpr Index kColdBytes = Index{128} << 20;

struct StoredMatrix {
  Tensor values, scale;
  ops::Weight weight;

  StoredMatrix(Index n, Index k, bool fp8) : values(fp8 ? DType::kF8E4M3 : DType::kBF16, {n, k}) {
    std::memset(values->raw(), 0x3A, static_cast<std::size_t>(values->num_bytes()));
    weight.values = values;
    if (!fp8) return;
    scale = Tensor(DType::kF32, {ops::num_blocks(n), ops::num_blocks(k)});
    for (Index i = 0; i < scale->num_elements(); ++i) scale->data<float>()[i] = 0.01f;
    weight.scale = scale;
  }
};

void linear(benchmark::State& state) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2);
  Context ctx;
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef x = ctx.workspace.floats({m, k});
  for (Index i = 0; i < m * k; ++i) x.data<float>()[i] = static_cast<float>(i % 17) - 8;
  std::vector<StoredMatrix> weights;
  for (Index bytes = 0; bytes < kColdBytes; bytes += weights.back().values->num_bytes())
    weights.emplace_back(n, k, state.range(3) != 0);
  std::size_t next = 0;
  for (auto _ : state) {
    const Workspace::Scope result(ctx.workspace);
    benchmark::DoNotOptimize(ops::linear(ctx, x, weights[next++ % weights.size()].weight).raw());
  }
  const double runs = static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(m * n * k) * runs, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(weights[0].values->num_bytes()) * runs,
                                              benchmark::Counter::kIsRate);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"m", "n", "k", "fp8"})->UseRealTime();
  for (const Index m : {1, 4, 16, 128, 512})
    for (const auto& [n, k] : {std::pair<Index, Index>{1408, 2048}, {2048, 1408}, {3072, 2048}})
      for (const Index fp8 : {1, 0}) b->Args({m, n, k, fp8});
}
BENCHMARK(linear)->Apply(shapes);

}  // namespace
}  // namespace hadal
