// hadal logits
#include "hadal/eval/logits.h"

#include <CLI/CLI.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/id_list.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/options.h"
#include "hadal/cli/terminal.h"
#include "hadal/io/json.h"
#include "hadal/stream/loader.h"

namespace hadal::cli {
namespace {

struct LogitsCommand {
  std::string model, ids, ids_file, out;
  ComputeOptions compute;
  eval::LogitsOptions logits;
};

void check_ids(const std::vector<config::TokenId>& ids, const config::Config& c) {
  for (const config::TokenId id : ids)
    HADAL_CHECK(id < c.vocab_size, "ids: {} is not below vocab_size {}", id, c.vocab_size);
  HADAL_CHECK(static_cast<Index>(ids.size()) <= c.max_position_embeddings,
              "ids: {} tokens are more than the context of {}", ids.size(), c.max_position_embeddings);
}

int run(LogitsCommand& o) {
  HADAL_CHECK(o.ids.empty() != o.ids_file.empty(), "logits: give one of --ids and --ids-file");
  const auto ids = o.ids.empty() ? parse_ids(io::read_text_file(o.ids_file), o.ids_file) : parse_ids(o.ids, "--ids");
  const auto ctx = o.compute.make_context("interrupted; nothing was written");
  const stream::LoadedModel model = stream::load_model(
      o.model, {.mtp = true, .stream = o.compute.stream(), .ctx = ctx.get(), .rearrange = o.compute.rearrange()});
  const StatsAtEnd stats(o.compute.stats, model.store.get());
  check_ids(ids, model.transformer.config);
  o.logits.chunk = o.compute.chunk;
  o.logits.cache_dtype = o.compute.cache_dtype();
  {
    ProgressBar progress("positions", ids.size());
    eval::write_rows(o.out, eval::compute_logits(*ctx, model.transformer, ids, o.logits, [&](Index done) {
                       progress.update(static_cast<std::uint64_t>(done));
                     }));
  }
  return 0;
}

}  // namespace

void add_logits(CLI::App& app, Action& action) {
  static LogitsCommand o;
  CLI::App* command = app.add_subcommand("logits", "Float32 logits of every position, as safetensors: the parity tool");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_option("--ids", o.ids, "Token ids: 1,2,3");
  command->add_option("--ids-file", o.ids_file, "File with a JSON array of ids, or ids apart by white space");
  command->add_option("--out", o.out, "File to write: logits [S, vocab], mtp0.logits [S-1, vocab], ...")->required();
  command->add_flag("--trace", o.logits.trace, "Also write every layer's latents, heads, routing and hidden states");
  command->add_option("--decode-from", o.logits.decode_from,
                      "From this position on compute one token at a time, in the absorbed form");
  o.compute.add_to(*command);
  o.compute.add_sequence_to(*command);
  o.compute.add_memory_to(*command);
  command->remove_option(command->get_option("--context"));
  command->footer("Example:\n  hadal logits models/mini --ids 0,4084,579,322 --out logits.safetensors --trace");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
