// hadal bench gemm | tokenizer
#include <CLI/CLI.hpp>

#include "hadal/cli/bench.h"
#include "hadal/io/json.h"
#include "hadal/perf/gemm.h"
#include "hadal/perf/tokenizer_bench.h"

namespace hadal::cli {
namespace {

struct GemmOptions {
  BenchOutput output;
  BenchContexts contexts;
  std::string shapes;
  std::vector<std::string> formats = {"fp8"};
};

struct TokenizerOptions {
  BenchOutput output;
  std::string model, file;
};

std::vector<perf::Row> measure_gemms(const GemmOptions& o) {
  const auto shapes =
      o.shapes.empty() ? perf::default_gemm_shapes() : perf::parse_gemm_shapes(io::read_text_file(o.shapes), o.shapes);
  o.contexts.for_each([](Context&) {});  // names are checked before memory is filled
  const perf::ReadTarget memory(perf::ReadTarget::kSmallest);
  perf::RunOptions run;
  run.runs = o.output.runs;
  run.poll = bench_poll;
  std::vector<perf::Row> rows;
  o.contexts.for_each([&](Context& ctx) {
    for (perf::GemmShape shape : shapes)
      for (const std::string& format : shape.format.empty() ? o.formats : std::vector{shape.format}) {
        shape.format = format;
        rows.push_back(perf::measure_gemm(ctx, memory, shape, run));
      }
  });
  return rows;
}

std::vector<perf::Row> measure_text(const TokenizerOptions& o) {
  const std::string text = io::read_text_file(o.file);
  HADAL_CHECK(!text.empty(), "{}: is empty, there is nothing to encode", o.file);
  return perf::measure_tokenizer([&] { return tokenizer::Tokenizer::load(o.model); }, text, o.output.runs, bench_poll);
}

void add_gemm(CLI::App& group, Action& action) {
  static GemmOptions o;
  CLI::App* command = group.add_subcommand("gemm", "Products with stored weights of given shapes");
  command->add_option("--shapes", o.shapes,
                      "File of lines M N K (rows of x, rows and columns of the weight) or M N K FORMAT (default: the "
                      "linears of moonlight-16e)");
  command->add_option("--format", o.formats, "Of lines without one: fp8, bf16, f16, f32, int8, int4 (default fp8)")
      ->delimiter(',')
      ->check(CLI::IsMember({"fp8", "bf16", "f16", "f32", "int8", "int4"}));
  o.contexts.add_to(*command);
  o.output.add_to(*command);
  command->footer(
      "Weights come from memory, not from the caches.\n\nExample:\n  hadal bench gemm --threads 1 --isa avx2");
  command->callback(
      [&action] { action = [] { return run_bench(o.output, "gemm", [] { return measure_gemms(o); }); }; });
}

void add_tokenizer_bench(CLI::App& group, Action& action) {
  static TokenizerOptions o;
  CLI::App* command = group.add_subcommand("tokenizer", "Encoding and decoding a text, one thread");
  command->add_option("MODEL", o.model, "Model directory (only its tokenizer's files are read)")->required();
  command->add_option("FILE", o.file, "Text file")->required();
  o.output.add_to(*command);
  command->footer(
      "The first encode is by a tokenizer that has seen nothing yet.\n\nExample:\n  hadal bench tokenizer models/mini "
      "README.md");
  command->callback(
      [&action] { action = [] { return run_bench(o.output, "tokenizer", [] { return measure_text(o); }); }; });
}

}  // namespace

void add_bench_parts(CLI::App& group, Action& action) {
  add_gemm(group, action);
  add_tokenizer_bench(group, action);
}

}  // namespace hadal::cli
