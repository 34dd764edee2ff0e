// What the benchmarks share: options, Ctrl-C, output and comparison.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hadal/cli/commands.h"
#include "hadal/perf/model_bench.h"
#include "hadal/perf/report.h"

namespace hadal::cli {

struct BenchOutput {
  Index runs = 5;
  bool json = false, markdown = false;
  std::string compare;

  void add_to(CLI::App& command);
};

// Every combination of the lists is measured.
struct BenchContexts {
  std::vector<int> threads;
  std::vector<std::string> isa, activations = {"f32"};
  bool fast = false;

  void add_to(CLI::App& command);
  // Calls f(context) for each; throws Error before the first if one is unknown or this machine has it not.
  void for_each(const std::function<void(Context&)>& f) const;
};

// Throws Interrupted after Ctrl-C.
void bench_poll();

// Measures, prints and compares: 0, or 1 if the comparison found a slower row. `rows` throws what is wrong.
int run_bench(const BenchOutput& output, const std::string& benchmark,
              const std::function<std::vector<perf::Row>()>& rows);

void add_bench_machine(CLI::App& group, Action& action);
void add_bench_parts(CLI::App& group, Action& action);  // gemm, tokenizer
void add_bench_model(CLI::App& group, Action& action);  // decode, prompt, batch, profile

}  // namespace hadal::cli
