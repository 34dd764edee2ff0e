// hadal init
#include "hadal/checkpoint/init.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/options.h"

namespace hadal::cli {
namespace {

struct InitCommand {
  std::string config, directory, dtype = "bf16", head, shard_size;
  checkpoint::InitOptions init;
  std::optional<Index> group;
  int threads = 0;
};

int run(InitCommand& o) {
  o.init.storage.target = checkpoint::target_from_name(o.dtype);
  if (o.group) {
    HADAL_CHECK(o.init.storage.target == checkpoint::Target::kInt4, "init: --group goes with --dtype int4");
    o.init.storage.group_size = *o.group;
  }
  if (!o.head.empty()) o.init.storage.head = checkpoint::target_from_name(o.head);
  if (!o.shard_size.empty()) o.init.shard_bytes = checkpoint::parse_size(o.shard_size, "--shard-size");
  Context ctx(o.threads);
  checkpoint::init_model(ctx, o.config, o.directory, o.init, ByteProgress("writing"));
  return 0;
}

}  // namespace

void add_init(CLI::App& app, Action& action) {
  static InitCommand o;
  CLI::App* command = app.add_subcommand("init", "Make a model directory with random weights of any config");
  command->add_option("CONFIG", o.config, "config.json, or a directory that has one")->required();
  command->add_option("DIR", o.directory, "Directory to make")->required();
  command->add_option("--seed", o.init.seed, "Seed; the same seed gives the same bytes (default 0)");
  command->add_option("--dtype", o.dtype, "f32, bf16, fp8, int8 or int4 (default bf16), as `hadal convert` makes them")
      ->check(CLI::IsMember({"f32", "bf16", "fp8", "int8", "int4"}));
  command->add_option("--group", o.group, "With int4: columns that share a scale (default 32)")
      ->check(CLI::IsMember({32, 64, 128}));
  command->add_option("--head", o.head, "Format of the head: bf16, int8, int4 (default: bf16, in an int4 model int8)")
      ->check(CLI::IsMember({"bf16", "int8", "int4"}));
  command
      ->add_option("--std", o.init.std, "Standard deviation of the matrices (default: the config's initializer_range)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--shard-size", o.shard_size,
                      "Cut into files of at most this size, e.g. 5GB (default: one file)");
  command->add_option("--threads", o.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  command->footer("Example:\n  hadal init models/mini/config.json random-mini --seed 1 --dtype fp8");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
