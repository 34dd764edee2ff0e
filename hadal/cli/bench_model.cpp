// hadal bench decode | prompt | batch | profile
#include <CLI/CLI.hpp>

#include "hadal/cli/bench.h"
#include "hadal/perf/speculation_bench.h"
#include "hadal/stream/loader.h"

namespace hadal::cli {
namespace {

struct BenchModelCommand {
  std::string model;
  BenchOutput output;
  BenchContexts contexts;
  std::vector<std::string> kv_cache = {"f32"};
  std::vector<Index> depths = {0}, lengths = {512}, batches;
  Index steps = 16, chunk = 1024;
  bool as_stored = false;
  std::string speculate = "off";
  Index drafts = 0;
  std::optional<double> acceptance;

  bool speculates() const { return speculate != "off"; }
};

using Rows = std::vector<perf::Row>;
using Measure = std::function<void(stream::LoadedModel&, Context&, const perf::RunOptions&, Rows&)>;
using MeasureBench = std::function<void(perf::ModelBench&, Context&, const perf::RunOptions&, Rows&)>;

// Calls `measure` for every context and cache format.
std::vector<perf::Row> measure_all(const BenchModelCommand& o, const Measure& measure) {
  o.contexts.for_each([](Context&) {});  // names are checked before a model is loaded
  std::vector<perf::Row> rows;
  o.contexts.for_each([&](Context& ctx) {
    stream::LoadedModel model =
        stream::load_model(o.model, {.mtp = o.speculates(), .ctx = &ctx, .rearrange = !o.as_stored});
    for (const std::string& format : o.kv_cache) {
      perf::RunOptions run;
      run.runs = o.output.runs;
      run.cache_dtype = format == "fp8" ? DType::kF8E4M3 : format == "bf16" ? DType::kBF16 : DType::kF32;
      run.chunk = o.chunk;
      run.poll = bench_poll;
      measure(model, ctx, run, rows);
    }
  });
  return rows;
}

std::vector<perf::Row> measure_bench(const BenchModelCommand& o, const MeasureBench& measure) {
  return measure_all(o, [&](stream::LoadedModel& model, Context& ctx, const perf::RunOptions& run, Rows& rows) {
    perf::ModelBench bench(model);
    measure(bench, ctx, run, rows);
  });
}

std::vector<perf::Row> measure_speculation(const BenchModelCommand& o) {
  return measure_all(o, [&](stream::LoadedModel& model, Context& ctx, const perf::RunOptions& run, Rows& rows) {
    HADAL_CHECK(!model.transformer.mtp.empty() || o.speculate != "mtp", "--speculate mtp: {} has no MTP layer",
                o.model);
    rows.push_back(perf::speculative_decode(ctx, model,
                                            {.speculate = *infer::speculate_named(o.speculate),
                                             .drafts = o.drafts,
                                             .acceptance = o.acceptance,
                                             .steps = o.steps},
                                            run));
  });
}

std::vector<perf::Row> measure_decode(const BenchModelCommand& o) {
  if (o.speculates()) return measure_speculation(o);
  return measure_bench(o, [&](perf::ModelBench& bench, Context& ctx, const perf::RunOptions& run, auto& rows) {
    for (const Index depth : o.depths)
      for (const Index batch : o.batches)
        rows.push_back(bench.decode(ctx, {.depth = depth, .sequences = batch, .steps = o.steps}, run));
  });
}

std::vector<perf::Row> measure_prompt(const BenchModelCommand& o) {
  return measure_bench(o, [&](perf::ModelBench& bench, Context& ctx, const perf::RunOptions& run, auto& rows) {
    for (const Index length : o.lengths) rows.push_back(bench.prompt(ctx, length, run));
  });
}

std::vector<perf::Row> measure_profile(const BenchModelCommand& o) {
  return measure_bench(o, [&](perf::ModelBench& bench, Context& ctx, const perf::RunOptions& run, auto& rows) {
    const auto append = [&](std::vector<perf::Row> more) {
      std::move(more.begin(), more.end(), std::back_inserter(rows));
    };
    for (const Index depth : o.depths)
      append(bench.decode_phases(ctx, {.depth = depth, .sequences = 1, .steps = o.steps}, run));
    for (const Index length : o.lengths) append(bench.prompt_phases(ctx, length, run));
  });
}

CLI::App* add(CLI::App& group, Action& action, BenchModelCommand& o, const char* name, const char* help,
              const char* example, std::vector<perf::Row> (*measure)(const BenchModelCommand&)) {
  CLI::App* command = group.add_subcommand(name, help);
  command->add_option("MODEL", o.model, "Model directory")->required();
  o.contexts.add_to(*command);
  command->add_option("--kv-cache", o.kv_cache, "Number formats of the cache: f32, bf16, fp8")
      ->delimiter(',')
      ->check(CLI::IsMember({"f32", "bf16", "fp8"}));
  command->add_flag("--as-stored", o.as_stored, "Use weights where the files lie in memory");
  o.output.add_to(*command);
  command->footer(std::string("Every combination of the lists is a row. Token ids are random; bytes and operations are "
                              "counted from the shapes and the experts really chosen.\n\nExample:\n  ") +
                  example);
  command->callback([&action, &o, name, measure] {
    action = [&o, name, measure] { return run_bench(o.output, name, [&] { return measure(o); }); };
  });
  return command;
}

void add_lengths(CLI::App& command, BenchModelCommand& o) {
  command.add_option("--lengths", o.lengths, "Tokens of the prompts, e.g. 128,512,2048 (default 512)")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command.add_option("--chunk", o.chunk, "Prompt tokens computed at a time (default 1024)")->check(CLI::PositiveNumber);
}

void add_steps(CLI::App& command, BenchModelCommand& o) {
  command.add_option("--depth", o.depths, "Tokens in the cache before the first step, e.g. 0,4096 (default 0)")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  command.add_option("--steps", o.steps, "Steps of one run (default 16)")->check(CLI::PositiveNumber);
}

void add_speculation(CLI::App& command, BenchModelCommand& o) {
  command.add_option("--speculate", o.speculate, "With drafts, in turns with plain decoding: mtp, lookup, auto or off")
      ->check(CLI::IsMember({"off", "mtp", "lookup", "auto"}));
  command.add_option("--drafts", o.drafts, "Drafts of a step (default: as many as pay)")->check(CLI::Range(1, 16));
  command
      .add_option("--acceptance", o.acceptance,
                  "Share of drafts that count as right, whatever the model says (default: those that are)")
      ->check(CLI::Range(0.0, 1.0));
}

}  // namespace

void add_bench_model(CLI::App& group, Action& action) {
  static BenchModelCommand decode, prompt, batch, profile;
  decode.batches = {1};
  CLI::App* d = add(group, action, decode, "decode", "One sequence, token by token",
                    "hadal bench decode models/mini --depth 0,100 --threads 1,2\n  hadal bench decode models/mini "
                    "--speculate mtp --drafts 1 --acceptance 0.85 --steps 64",
                    measure_decode);
  add_steps(*d, decode);
  add_speculation(*d, decode);
  add_lengths(*add(group, action, prompt, "prompt", "Prompts from an empty cache to the logits of their last token",
                   "hadal bench prompt models/mini --lengths 128,512", measure_prompt),
              prompt);
  batch.batches = {1, 4, 8};
  CLI::App* b = add(group, action, batch, "batch", "Several sequences, a token of each at a time",
                    "hadal bench batch models/mini --batch 1,4,8", measure_decode);
  b->add_option("--batch", batch.batches, "Numbers of sequences (default 1,4,8)")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  add_steps(*b, batch);
  CLI::App* p =
      add(group, action, profile, "profile", "Where the time of a decoding step and of a prompt goes, by phase",
          "hadal bench profile models/mini --depth 0,100 --lengths 256", measure_profile);
  add_steps(*p, profile);
  add_lengths(*p, profile);
}

}  // namespace hadal::cli
