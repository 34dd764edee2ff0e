// hadal perplexity
#include "hadal/eval/perplexity.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/options.h"
#include "hadal/cli/terminal.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/stream/loader.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

struct PerplexityCommand {
  std::string model, file;
  ComputeOptions compute;
  eval::PerplexityOptions perplexity;
  std::string against;
  bool json = false;
};

void print_json(const PerplexityCommand& o, const eval::PerplexityResult& r, std::size_t bytes,
                const stream::ExpertStore* store) {
  nlohmann::ordered_json json = {{"nats_per_token", r.nats_per_token()},
                                 {"bits_per_byte", r.bits_per_byte(bytes)},
                                 {"tokens", r.tokens},
                                 {"bytes", bytes}};
  if (o.perplexity.reference) {
    json["against"] = o.against;
    json["kl_divergence"] = r.divergence_per_token();
    json["same_top_token"] = r.agreement();
  }
  if (o.compute.stats) json["experts"] = stats_json(store);
  print(json.dump() + "\n");
}

void print_text(const PerplexityCommand& o, const eval::PerplexityResult& r, std::size_t bytes) {
  const double nats = r.nats_per_token();
  print(fmt::format("{:.4f} nats a token, {:.4f} bits a byte ({} tokens, {} bytes; perplexity {:.3f})\n", nats,
                    r.bits_per_byte(bytes), r.tokens, bytes, std::exp(nats)));
  if (o.perplexity.reference)
    print(fmt::format("against {}: KL divergence {:.3g} nats a token, most probable token the same in {:.2f}%\n",
                      o.against, r.divergence_per_token(), 100 * r.agreement()));
}

int run(PerplexityCommand& o) {
  const std::string text(io::utf8_text(io::read_text_file(o.file), o.file));
  const auto tokenizer = tokenizer::Tokenizer::load(o.model);
  const auto ids = tokenizer.encode(text, tokenizer::AddedTokenMode::kIgnore);
  HADAL_CHECK(!ids.empty(), "{}: is empty, there is nothing to predict", o.file);
  const auto ctx = o.compute.make_context();
  if (!o.against.empty()) o.perplexity.reference = eval::Mode{.activations = parse_activations("--against", o.against)};
  // Two instruction sets read the same weights, and so do two ways of rounding: as they are stored.
  const bool alone = !o.perplexity.reference || (o.perplexity.reference->isa == ctx->numerics.isa &&
                                                 ctx->numerics.activations != Activations::kInt8);
  const stream::LoadedModel model = stream::load_model(
      o.model, {.stream = o.compute.stream(), .ctx = ctx.get(), .rearrange = o.compute.rearrange() && alone});
  const StatsAtEnd stats(o.compute.stats && !o.json, model.store.get());
  auto bos = model.transformer.config.bos_token_id;
  if (!bos) bos = tokenizer.added_token(tokenizer.config().bos_token);
  HADAL_CHECK(bos, "{}: names no BOS token, windows begin with one; add bos_token_id to config.json", o.model);
  for (const auto id : ids)
    HADAL_CHECK(id < model.transformer.config.vocab_size, "{}: its tokenizer gives id {}, vocab_size is {}", o.model,
                id, model.transformer.config.vocab_size);
  o.perplexity.bos = *bos;
  o.perplexity.cache_dtype = o.compute.cache_dtype();
  eval::PerplexityResult result;
  {
    ProgressBar progress("tokens", ids.size());
    result = eval::perplexity(*ctx, model.transformer, ids, o.perplexity,
                              [&](Index done) { progress.update(static_cast<std::uint64_t>(done)); });
  }
  if (o.json)
    print_json(o, result, text.size(), model.store.get());
  else
    print_text(o, result, text.size());
  return 0;
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  static PerplexityCommand o;
  CLI::App* command =
      app.add_subcommand("perplexity", "How well a model predicts a text: nats a token and bits a byte");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_option("FILE", o.file, "Text file")->required();
  command->add_option("--context", o.perplexity.context, "Window: BOS and this many tokens less one (default 512)")
      ->check(CLI::Range(2, 1 << 30));
  command
      ->add_option("--stride", o.perplexity.stride,
                   "Tokens a window advances by; only its last ones are scored (default: no overlap)")
      ->check(CLI::PositiveNumber);
  command->add_option(
      "--against", o.against,
      "Also run with these activations (f32, bf16, int8 or fp8), the best instruction set and a cache "
      "in f32, and print the KL divergence from that and how often the most probable token is the same");
  command->add_flag("--json", o.json,
                    "Print {\"nats_per_token\", \"bits_per_byte\", \"tokens\", \"bytes\"}, with --against also "
                    "\"against\", \"kl_divergence\" and \"same_top_token\", with --stats also \"experts\"");
  o.compute.add_to(*command);
  o.compute.add_cache_to(*command);
  o.compute.add_memory_to(*command);
  command->footer("Example:\n  hadal perplexity models/mini README.md --activations bf16 --against f32");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
