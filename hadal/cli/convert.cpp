// hadal convert
#include "hadal/checkpoint/convert.h"

#include <CLI/CLI.hpp>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/options.h"

namespace hadal::cli {
namespace {

struct Options {
  std::string source, destination, to, shard_size;
  checkpoint::ConvertOptions convert;
  int threads = 0;
};

int run(Options& o) {
  o.convert.target = checkpoint::target_from_name(o.to);
  if (!o.shard_size.empty()) o.convert.shard_bytes = checkpoint::parse_size(o.shard_size);
  HADAL_CHECK(!o.convert.ue8m0 || o.convert.target == checkpoint::Target::kFp8, "convert: --ue8m0 goes with --to fp8");
  Context ctx(o.threads);
  checkpoint::convert_model(ctx, o.source, o.destination, o.convert, ByteProgress("converting"));
  return 0;
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  static Options o;
  CLI::App* command = app.add_subcommand("convert", "Cast a model directory to bf16, fp8 or f32: streaming, resumable");
  command->add_option("SRC", o.source, "Model directory")->required();
  command->add_option("DST", o.destination, "Directory to make; SRC's tokenizer and other small files come along")
      ->required();
  command->add_option("--to", o.to, "bf16, fp8 (128x128 blocks) or f32")
      ->required()
      ->check(CLI::IsMember({"bf16", "fp8", "f32"}));
  command->add_flag("--ue8m0", o.convert.ue8m0, "With --to fp8: scales are powers of two");
  command->add_option("--shard-size", o.shard_size, "Size of the files, e.g. 500MB or 5GB (default 5GB)");
  command->add_option("--threads", o.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  command->footer(
      "An interrupted run goes on where it was when the same command is given again.\n\nExample:\n  hadal convert "
      "models/mini mini-fp8 --to fp8");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
