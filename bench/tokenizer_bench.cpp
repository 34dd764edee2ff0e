// The bundled model's tokenizer on a paragraph, repeated; run from the repository's root. Whole books, and another
// implementation beside it: tokenizer_ratio.py.
#include <benchmark/benchmark.h>

#include "hadal/tokenizer/tokenizer.h"

namespace hadal::tokenizer {
namespace {

std::string text(std::int64_t times) {
  std::string out;
  for (std::int64_t i = 0; i < times; ++i)
    out +=
        "It was a bright cold day in April, and 13 clocks struck " + std::to_string(i) + "; nobody's café was open.\n";
  return out;
}

void encode(benchmark::State& state) {
  const Tokenizer tokenizer = Tokenizer::load("models/mini");
  const std::string input = text(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(input).size());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(input.size()));
}
BENCHMARK(encode)->Arg(1)->Arg(1000);

void decode(benchmark::State& state) {
  const Tokenizer tokenizer = Tokenizer::load("models/mini");
  const std::string input = text(state.range(0));
  const std::vector<TokenId> ids = tokenizer.encode(input);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids).size());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(input.size()));
}
BENCHMARK(decode)->Arg(1)->Arg(1000);

}  // namespace
}  // namespace hadal::tokenizer
