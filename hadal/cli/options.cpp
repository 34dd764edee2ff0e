#include "hadal/cli/options.h"

#include <CLI/CLI.hpp>

#include "hadal/checkpoint/model_directory.h"
#include "hadal/cli/interrupt.h"
#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/io/free_memory.h"

namespace hadal::cli {

Isa parse_isa(const std::string& name) {
  const auto isa = isa_from_name(name);
  HADAL_CHECK(isa, "--isa: {} is not known; ref, avx2, avx512 and avx512-bf16 are", name);
  HADAL_CHECK(isa_supported(*isa), "--isa: this machine has no {}", name);
  return *isa;
}

Activations parse_activations(const std::string& option, const std::string& name) {
  const auto activations = activations_from_name(name);
  HADAL_CHECK(activations, "{}: {} is not known; f32, bf16, int8 and fp8 are", option, name);
  return *activations;
}

void ComputeOptions::add_to(CLI::App& command) {
  command.add_option("--threads", threads, "Threads to compute with (default: all cores this process may use)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--isa", isa,
                     "Instruction set: ref, avx2, avx512 or avx512-bf16 (default: the best this machine has)");
  CLI::Option* rounding = command.add_option(
      "--activations", activations,
      "How inputs of linears are rounded: f32 (default) not at all, bf16, int8 (8 bits with a scale per "
      "128), or fp8 (where the weight is FP8, as the reference code does)");
  command.add_flag("--fast", fast, "The same as --activations int8: faster, and a little less exact")
      ->excludes(rounding);
}

void ComputeOptions::add_cache_to(CLI::App& command) {
  command
      .add_option("--kv-cache", kv_cache,
                  "Number format of the cache: f32, bf16 or fp8 (656 bytes a token and layer at V3's size)")
      ->check(CLI::IsMember({"f32", "bf16", "fp8"}));
}

void ComputeOptions::add_sequence_to(CLI::App& command) {
  command.add_option("--context", context, "Tokens a sequence may have (default: max_position_embeddings)")
      ->check(CLI::PositiveNumber);
  add_cache_to(command);
  command.add_option("--chunk", chunk, "Prompt tokens computed at a time (default 1024); changes no bit of the result")
      ->check(CLI::PositiveNumber);
}

void ComputeOptions::add_memory_to(CLI::App& command) {
  command.add_option("--memory", memory,
                     "Memory for the model and its cache, e.g. 6GB: of a larger model, experts are read from disk when "
                     "they are needed; changes no bit of the result (default: what is free)");
  command.add_flag("--as-stored", as_stored,
                   "Use weights where the files lie in memory, instead of a copy arranged for the kernels: starts at "
                   "once and shares memory with other processes, but decodes at about half the speed; the same bits");
  command.add_flag("--stats", stats, "At the end, say on stderr how the memory for experts served, and drafts");
}

stream::StreamOptions ComputeOptions::stream() const {
  stream::StreamOptions options{.counts_directory = stream::cache_directory()};
  options.strict = !memory.empty();
  // The rest is for the sequence's cache and everything else that this machine does.
  options.memory = options.strict ? checkpoint::parse_size(memory, "--memory") : io::free_memory() / 16 * 15;
  return options;
}

std::unique_ptr<Context> ComputeOptions::make_context(const std::string& when_interrupted) const {
  const Isa chosen = isa.empty() ? best_isa() : parse_isa(isa);
  const Activations rounding = fast ? Activations::kInt8 : parse_activations("--activations", activations);
  if (fast) log_warning("--fast: inputs of linears are rounded to 8 bits, and weights in FP8 and BF16 with them");
  auto ctx = std::make_unique<Context>(threads, Numerics{chosen, rounding});
  log_info("{}, activations {}, {} thread{}", isa_name(chosen), activations_name(rounding), ctx->threads.num_threads(),
           ctx->threads.num_threads() == 1 ? "" : "s");
  end_when_interrupted(*ctx, when_interrupted);
  return ctx;
}

void end_when_interrupted(Context& ctx, const std::string& sentence) {
  ctx.observers.keep(std::make_unique<Poll>([sentence] {
    if (interrupted()) throw Interrupted(sentence);
  }));
}

void ComputeOptions::add_disk_to(CLI::App& command) {
  command.add_option(
      "--kv-disk", kv_disk,
      "Directory in which the cache of prompts is kept, so that a prompt's beginning is computed once and "
      "found after a restart, too; changes no bit of the result");
  command.add_option("--kv-disk-size", kv_disk_size,
                     "Size that it may come to, e.g. 20GB (the default); what was used longest ago goes first");
}

void ComputeOptions::add_speculate_to(CLI::App& command) {
  command
      .add_option(
          "--speculate", speculate,
          "Draft tokens and verify them together: by the model's own MTP layer (mtp), by what followed the same "
          "words before (lookup), either where it pays (auto, the default), or not (off); changes no bit of "
          "the result")
      ->check(CLI::IsMember({"off", "mtp", "lookup", "auto"}));
}

infer::Speculate ComputeOptions::speculation() const {
  return *infer::speculate_named(speculate);
}

bool ComputeOptions::needs_mtp() const {
  return speculation() == infer::Speculate::kMtp || speculation() == infer::Speculate::kAuto;
}

DType ComputeOptions::cache_dtype() const {
  return kv_cache == "fp8" ? DType::kF8E4M3 : kv_cache == "bf16" ? DType::kBF16 : DType::kF32;
}

void SamplingOptions::add_to(CLI::App& command) {
  command.add_option("--temperature", temperature, "0 is greedy (default: the model's generation_config, else 1)");
  command.add_option("--top-p", top_p, "Keep the most probable tokens that together reach this probability");
  command.add_option("--top-k", top_k, "Keep the k most probable tokens (0: all)");
  command.add_option("--min-p", min_p, "Keep tokens with at least this share of the best one's probability");
  command.add_option("--repetition-penalty", repetition_penalty, "Above 1 discourages tokens already seen");
  command.add_option("--presence-penalty", presence_penalty, "-2 to 2: taken once from tokens already in the answer");
  command.add_option("--frequency-penalty", frequency_penalty, "-2 to 2: taken for each occurrence in the answer");
  command.add_option("--seed", seed, "Seed of the random numbers (default 0); same seed, same answer");
  command.add_option("--max-tokens", max_tokens, "Tokens an answer may have")->check(CLI::PositiveNumber);
  command.add_option("--stop", stop, "End the answer before this text (may be repeated)");
}

infer::SamplingParams SamplingOptions::params(const io::GenerationConfig& defaults) const {
  infer::SamplingParams p;
  const bool greedy = defaults.do_sample && !*defaults.do_sample;
  p.temperature = temperature.value_or(greedy ? 0.0 : defaults.temperature.value_or(1.0));
  p.top_p = top_p.value_or(defaults.top_p.value_or(1.0));
  p.top_k = top_k.value_or(defaults.top_k.value_or(0));
  p.min_p = min_p.value_or(defaults.min_p.value_or(0.0));
  p.repetition_penalty = repetition_penalty.value_or(defaults.repetition_penalty.value_or(1.0));
  p.presence_penalty = presence_penalty.value_or(0.0);
  p.frequency_penalty = frequency_penalty.value_or(0.0);
  p.seed = seed;
  infer::validate(p);
  return p;
}

void TemplateOptions::add_to(CLI::App& command) {
  command.add_option("--thinking", thinking, "on or off: ask the chat template for thinking or not")
      ->check(CLI::IsMember({"on", "off"}));
  command.add_option("--var", variables, "Variable of the chat template, e.g. thinking=true (may be repeated)")
      ->allow_extra_args(false);
  command.add_option("--template", name,
                     "Which of the model's chat templates, if it has several (default: tool_use when there are tools)");
}

tokenizer::RenderOptions TemplateOptions::render() const {
  tokenizer::RenderOptions out;
  out.template_name = name;
  // The published templates call it by either name.
  if (!thinking.empty()) out.variables = {{"thinking", thinking == "on"}, {"enable_thinking", thinking == "on"}};
  for (const std::string& pair : variables) {
    const std::size_t equals = pair.find('=');
    HADAL_CHECK(equals != pair.npos && equals > 0, "--var: \"{}\" is not NAME=VALUE", pair);
    const std::string value = pair.substr(equals + 1);
    const auto parsed = nlohmann::ordered_json::parse(value, nullptr, false);
    out.variables[pair.substr(0, equals)] = parsed.is_discarded() ? nlohmann::ordered_json(value) : parsed;
  }
  return out;
}

std::filesystem::path bundled_model() {
  std::error_code status;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", status).parent_path();
  for (const char* place : {"../models/mini", "../share/hadal/models/mini"}) {
    const auto path = (program / place).lexically_normal();
    if (std::filesystem::exists(path / "config.json", status)) return path;
  }
  fail("the bundled model was not found beside {}; name a model directory", program.string());
}

}  // namespace hadal::cli
