// What `hadal train` is told: one TOML file. Every field stands once in a table (train_config.cpp) that reading,
// defaults, errors, --explain and the comparison at a resume come from. Names are the technical report's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/io/json.h"
#include "hadal/train/schedule.h"

namespace hadal::train {

// Of what is not set, `run_schedule` (run_schedule.h) takes the report's shares of the run.
struct TrainConfig {
  std::string run_dir;
  std::uint64_t seed = 0;
  int threads = 0;
  std::string precision = "f32";
  bool recompute = false;

  struct Model {
    std::string config, init_from, tokenizer;
    double init_std = 0.006;
    std::optional<std::uint64_t> init_seed;
  } model;
  struct Data {
    std::string directory;
    std::vector<std::string> text;
    std::string documents;
    double validation = 0.05, fim_rate = 0.1;
    std::optional<double> epochs;
    bool keep_duplicates = false, within_documents = false;
  } data;
  struct Batch {
    TokenTable sequences, sequence_length;
    Index micro_batch = 0;
  } batch;
  struct Length {
    std::optional<std::uint64_t> tokens;
    std::optional<Index> steps;
  } length;
  struct Rate {
    double peak = 2.2e-4;
    std::optional<double> low, last;
    Index warmup_steps = 2000;
    std::optional<std::uint64_t> constant_until, cosine_until, low_until;
  } learning_rate;
  struct Objectives {
    TokenTable lambda, gamma;
    double alpha = 1e-4;
  } objective;
  struct OptimizerFields {
    std::string kind = "adamw", moments = "f32";
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1, momentum = 0.95, qk_clip = 0;
  } optimizer;
  double ema_decay = 0;
  struct Log {
    Index every = 10, validation_every = 0, validation_sequences = 64, samples_every = 0, sample_tokens = 64;
    std::vector<std::string> sample_prompts;
  } log;
  struct Checkpointing {
    Index every_steps = 0;
    double every_minutes = 15;
    Index keep_last = 2, keep_every = 0;
  } checkpoint;
  struct Spikes {
    double z_score = 8;
    Index window = 100, most = 10;
  } spikes;
  std::string export_dtype = "bf16";
  bool export_average = false;
};

// What a new value means to a run that is resumed.
enum class OnChange { kAccepted, kRefused };

struct Field {
  std::string key;     // "learning_rate.peak"
  std::string kind;    // "number"
  std::string report;  // DeepSeek-V3's value; empty: it says nothing
  std::string text;
  OnChange on_change;
  std::string why;  // of a refusal, or what an accepted change does
  // The value; throws Error, without saying where, for one of another kind. null: not set.
  void (*set)(TrainConfig&, const io::Json&);
  io::Json (*get)(const TrainConfig&);
};
std::span<const Field> train_fields();

// The file, then "key=value" settings over it. Throws Error, a sentence (line) for everything that is wrong: no TOML,
// unknown fields (with what may have been meant), kinds, ranges, what contradicts itself.
TrainConfig read_train_config(const std::filesystem::path& path, std::span<const std::string> settings);
TrainConfig parse_train_config(std::string_view toml, const std::string& where, std::span<const std::string> settings);

// Every field: kind, default, the report's value, meaning; with `config` its value in effect.
std::string explain_train_config(const TrainConfig* config);

// All fields by their keys.
io::Json to_json(const TrainConfig& config);
// All that are set, as a file that gives the same configuration.
std::string to_toml(const TrainConfig& config);

// What differs from `saved` (to_json of the run's configuration): throws Error, a sentence for each field that a resumed
// run may not change; returns a sentence for each that it may.
std::vector<std::string> accept_changes(const io::Json& saved, const TrainConfig& now);

}  // namespace hadal::train
