// hadal bench: options and output that its commands share
#include "hadal/cli/bench.h"

#include <CLI/CLI.hpp>

#include "hadal/cli/interrupt.h"
#include "hadal/cli/options.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::cli {
namespace {

perf::Json to_json(const std::vector<perf::Change>& changes) {
  perf::Json list = perf::Json::array();
  for (const perf::Change& c : changes)
    list.push_back({{"name", c.name},
                    {"unit", c.unit},
                    {"old", c.old_value},
                    {"new", c.new_value},
                    {"old_ratio", c.old_ratio},
                    {"new_ratio", c.new_ratio},
                    {"relative_speed", c.relative_speed()},
                    {"slower", c.slower()}});
  return list;
}

void print_report(const BenchOutput& output, const perf::Report& report, const std::vector<perf::Change>& changes) {
  if (output.json) {
    perf::Json json = perf::to_json(report);
    if (!output.compare.empty()) json["compared"] = to_json(changes);
    print(json.dump(2) + "\n");
    return;
  }
  print(output.markdown ? perf::to_markdown(report) : perf::to_table(report));
  if (!output.compare.empty()) print("\n" + (output.markdown ? perf::to_markdown(changes) : perf::to_table(changes)));
}

}  // namespace

void BenchOutput::add_to(CLI::App& command) {
  command.add_option("--runs", runs, "Measurements of each row; median and quartiles are shown (default 5)")
      ->check(CLI::Range(1, 10000));
  CLI::Option* as_json = command.add_flag("--json", json, "Print as JSON");
  command.add_flag("--markdown", markdown, "Print Markdown tables")->excludes(as_json);
  command.add_option("--compare", compare,
                     "An output of --json: also show old against new, and return 1 if a row's share of its limit fell "
                     "by more than a tenth");
}

void BenchContexts::add_to(CLI::App& command) {
  command.add_option("--threads", threads, "Numbers of threads, e.g. 1,2 (default: all cores this process may use)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  command
      .add_option("--isa", isa, "Instruction sets: ref, avx2, avx512, avx512-bf16 (default: the best this machine has)")
      ->delimiter(',');
  CLI::Option* rounding =
      command
          .add_option("--activations", activations, "How inputs of linears are rounded: f32 (default), bf16, int8, fp8")
          ->delimiter(',');
  command.add_flag("--fast", fast, "The same as --activations int8")->excludes(rounding);
}

void BenchContexts::for_each(const std::function<void(Context&)>& f) const {
  std::vector<Isa> sets;
  std::vector<Activations> formats;
  for (const std::string& name : isa) sets.push_back(parse_isa(name));
  for (const std::string& name : fast ? std::vector<std::string>{"int8"} : activations)
    formats.push_back(parse_activations("--activations", name));
  if (sets.empty()) sets.push_back(best_isa());
  for (const int count : threads.empty() ? std::vector<int>{0} : threads)
    for (const Isa set : sets)
      for (const Activations format : formats) {
        Context ctx(count, Numerics{set, format});
        Poll poll(bench_poll);
        const Observers::Watch watch(ctx.observers, poll);
        f(ctx);
      }
}

void bench_poll() {
  if (interrupted()) throw Interrupted("interrupted");
}

int run_bench(const BenchOutput& output, const std::string& benchmark,
              const std::function<std::vector<perf::Row>()>& rows) {
  perf::Report old;
  if (!output.compare.empty()) {
    old = perf::report_from_json(io::read_json_file(output.compare), output.compare);
    HADAL_CHECK(old.benchmark == benchmark, "{}: is of `hadal bench {}`, this is `hadal bench {}`", output.compare,
                old.benchmark, benchmark);
  }
  const perf::Report report{benchmark, perf::describe_machine(), rows()};
  const std::vector<perf::Change> changes = perf::compare(old, report);
  HADAL_CHECK(output.compare.empty() || !changes.empty(), "{}: has none of these rows; measure with the same options",
              output.compare);
  print_report(output, report, changes);
  for (const perf::Change& change : changes)
    if (change.slower()) return 1;
  return 0;
}

void add_bench(CLI::App& app, Action& action) {
  CLI::App* group =
      app.add_subcommand("bench", "How fast a model runs, beside the limits of the machine in the same run");
  group->require_subcommand(1);
  group->footer("Example:\n  hadal bench decode models/mini --depth 0,100 --threads 1,2");
  add_bench_machine(*group, action);
  add_bench_model(*group, action);
  add_bench_parts(*group, action);
}

}  // namespace hadal::cli
