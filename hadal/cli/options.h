// Options that several commands share, and what they turn into.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/infer/engine.h"
#include "hadal/io/generation_config.h"
#include "hadal/stream/streaming.h"
#include "hadal/tokenizer/chat_template.h"

namespace CLI {
class App;
}

namespace hadal::cli {

// Throw Error with a sentence that names the option and what is known.
Isa parse_isa(const std::string& name);  // also if this machine has it not
Activations parse_activations(const std::string& option, const std::string& name);

struct ComputeOptions {
  int threads = 0;
  std::string isa;
  std::string activations = "f32";
  std::string kv_cache = "f32";
  Index context = 0;
  Index chunk = 1024;
  std::string memory;
  std::string kv_disk, kv_disk_size = "20GB";
  std::string speculate = "auto";
  bool stats = false, as_stored = false, fast = false;

  void add_to(CLI::App& command);            // --threads, --isa, --activations, --fast
  void add_cache_to(CLI::App& command);      // --kv-cache
  void add_sequence_to(CLI::App& command);   // --context, --kv-cache, --chunk
  void add_memory_to(CLI::App& command);     // --memory, --as-stored, --stats
  void add_disk_to(CLI::App& command);       // --kv-disk, --kv-disk-size
  void add_speculate_to(CLI::App& command);  // --speculate
  // Ctrl-C ends a pass between two layers, with this sentence.
  std::unique_ptr<Context> make_context(const std::string& when_interrupted = "interrupted") const;
  stream::StreamOptions stream() const;
  bool rearrange() const { return !as_stored; }
  DType cache_dtype() const;
  infer::Speculate speculation() const;
  bool needs_mtp() const;  // the layers that draft
};

// Ctrl-C ends what ctx computes between two layers, with this sentence.
void end_when_interrupted(Context& ctx, const std::string& sentence);

struct SamplingOptions {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<Index> top_k, max_tokens;
  std::uint64_t seed = 0;
  std::vector<std::string> stop;

  void add_to(CLI::App& command);
  // Flags over the model's generation_config over neutral values.
  infer::SamplingParams params(const io::GenerationConfig& defaults) const;
};

// How messages become a prompt.
struct TemplateOptions {
  std::vector<std::string> variables;  // NAME=VALUE
  std::string thinking, name;

  void add_to(CLI::App& command);  // --var, --thinking, --template
  // Throws Error for what is not NAME=VALUE; a value that is not JSON is text.
  tokenizer::RenderOptions render() const;
};

// The small model that comes with Hadal: beside the build directory or where an installation puts it.
std::filesystem::path bundled_model();

}  // namespace hadal::cli
