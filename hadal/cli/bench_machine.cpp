// hadal bench machine
#include <CLI/CLI.hpp>

#include "hadal/cli/bench.h"
#include "hadal/perf/machine.h"

namespace hadal::cli {
namespace {

struct BenchMachineCommand {
  BenchOutput output;
  std::vector<int> threads;
  std::string disk;
  bool no_disk = false;
};

std::vector<perf::Row> measure(const BenchMachineCommand& o) {
  std::vector<int> threads = o.threads;
  if (threads.empty())
    for (int n = 1; n <= ThreadPool::available_cores();
         n = n < ThreadPool::available_cores() ? std::min(2 * n, ThreadPool::available_cores()) : n + 1)
      threads.push_back(n);
  std::vector<perf::Row> rows = perf::measure_machine(threads, best_isa(), o.output.runs, bench_poll);
  if (o.no_disk) return rows;
  for (perf::Row& row : perf::measure_disk(o.disk, threads, o.output.runs, bench_poll)) rows.push_back(std::move(row));
  return rows;
}

}  // namespace

void add_bench_machine(CLI::App& group, Action& action) {
  static BenchMachineCommand o;
  CLI::App* command = group.add_subcommand("machine", "Limits alone: reading memory, arithmetic, disk");
  command->add_option("--threads", o.threads, "Numbers of threads (default: 1, 2, 4, ... up to all cores)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  CLI::Option* disk =
      command->add_option("--disk", o.disk, "File to read past the page cache (default: a temporary one of 1 GiB)")
          ->check(CLI::ExistingFile);
  command->add_flag("--no-disk", o.no_disk, "Leave the disk out")->excludes(disk);
  o.output.add_to(*command);
  command->footer(
      "Memory is 1 GiB of this process's own. Operations are counted as two for each multiply-add.\n\nExample:\n  "
      "hadal "
      "bench machine --threads 1,2 --no-disk");
  command->callback([&action] { action = [] { return run_bench(o.output, "machine", [] { return measure(o); }); }; });
}

}  // namespace hadal::cli
