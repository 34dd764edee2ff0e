// hadal convert
#include "hadal/checkpoint/convert.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/options.h"
#include "hadal/config/config.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

struct ConvertCommand {
  std::string source, destination, to, head, calibrate, shard_size;
  checkpoint::ConvertOptions convert;
  std::optional<Index> group;
  int threads = 0;
};

checkpoint::CalibrationText calibration_text(const std::filesystem::path& model, const std::string& file) {
  const auto tokenizer = tokenizer::Tokenizer::load(model);
  checkpoint::CalibrationText text;
  text.ids = tokenizer.encode(io::utf8_text(io::read_text_file(file), file), tokenizer::AddedTokenMode::kIgnore);
  HADAL_CHECK(!text.ids.empty(), "{}: is empty, there is nothing to calibrate with", file);
  const config::Config config = config::load_config(model);
  for (const auto id : text.ids)
    HADAL_CHECK(id < config.vocab_size, "{}: its tokenizer gives id {}, vocab_size is {}", model.string(), id,
                config.vocab_size);
  auto bos = config.bos_token_id;
  if (!bos) bos = tokenizer.added_token(tokenizer.config().bos_token);
  HADAL_CHECK(bos, "{}: names no BOS token, windows begin with one; add bos_token_id to config.json", model.string());
  text.bos = *bos;
  return text;
}

int run(ConvertCommand& o) {
  o.convert.storage.target = checkpoint::target_from_name(o.to);
  if (o.group) {
    HADAL_CHECK(o.convert.storage.target == checkpoint::Target::kInt4, "convert: --group goes with --to int4");
    o.convert.storage.group_size = *o.group;
  }
  if (!o.head.empty()) o.convert.storage.head = checkpoint::target_from_name(o.head);
  HADAL_CHECK(!o.convert.storage.ue8m0 || o.convert.storage.target == checkpoint::Target::kFp8,
              "convert: --ue8m0 goes with --to fp8");
  if (!o.shard_size.empty()) o.convert.shard_bytes = checkpoint::parse_size(o.shard_size, "--shard-size");
  if (!o.calibrate.empty()) {
    HADAL_CHECK(o.convert.storage.target == checkpoint::Target::kInt4, "convert: --calibrate goes with --to int4");
    o.convert.calibration = calibration_text(o.source, o.calibrate);
  }
  Context ctx(o.threads);
  checkpoint::convert_model(ctx, o.source, o.destination, o.convert, ByteProgress("converting"));
  return 0;
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  static ConvertCommand o;
  CLI::App* command = app.add_subcommand("convert", "Cast or quantise a model directory: streaming, resumable");
  command->add_option("SRC", o.source, "Model directory")->required();
  command->add_option("DST", o.destination, "Directory to make; SRC's tokenizer and other small files come along")
      ->required();
  command
      ->add_option("--to", o.to,
                   "bf16, f32, fp8 or int8 (128x128 blocks), int4 (compressed-tensors pack-quantized, symmetric)")
      ->required()
      ->check(CLI::IsMember({"bf16", "fp8", "f32", "int8", "int4"}));
  command->add_option("--group", o.group, "With --to int4: columns that share a scale, 32, 64 or 128 (default 32)")
      ->check(CLI::IsMember({32, 64, 128}));
  command
      ->add_option("--head", o.head,
                   "Format of the head: bf16, int8, int4 (default: bf16, in an int4 model int8). With int4, the MTP "
                   "layers are int4 too, otherwise int8")
      ->check(CLI::IsMember({"bf16", "int8", "int4"}));
  command->add_option("--calibrate", o.calibrate,
                      "With --to int4: a text file; weights are rounded so that the layers' results on it stay (GPTQ), "
                      "not each to nearest. Its first 16384 tokens are used");
  command->add_flag("--ue8m0", o.convert.storage.ue8m0, "With --to fp8: scales are powers of two");
  command->add_option("--shard-size", o.shard_size, "Size of the files, e.g. 500MB or 5GB (default 5GB)");
  command->add_option("--threads", o.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  command->footer(
      "An interrupted run goes on where it was when the same command is given again.\n\nExample:\n  hadal convert "
      "models/mini mini-fp8 --to fp8");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
