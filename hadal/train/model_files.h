// What a model directory has beside its weights, and whole directories of trained models.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "hadal/checkpoint/storage.h"
#include "hadal/io/json.h"
#include "hadal/train/parameters.h"

namespace hadal::train {

struct ModelFiles {
  io::Json config;                           // config.json as it was given
  std::map<std::string, std::string> texts;  // generation_config.json and the tokenizer's files, by name

  // config.json for weights that are stored like this.
  std::string config_text(const config::Config& config, const checkpoint::StorageOptions& storage) const;
};

// The model's shape: that of `init_from`, a model directory, or if it is empty what `config_file` says. Throws Error.
config::Config model_config(const std::filesystem::path& config_file, const std::filesystem::path& init_from);

// `config_file`: config.json or a directory with one. Files of the tokenizer come from `tokenizer`; a
// generation_config.json too, or it says what config.json does of begin and end.
ModelFiles read_model_files(const std::filesystem::path& config_file, const std::filesystem::path& tokenizer);

// The values in Hugging Face layout, in the place of what was at `target`; it is whole there or as it was.
void write_model(Context& ctx, const Parameters& parameters, const config::Config& config, const ModelFiles& files,
                 const std::filesystem::path& target, const checkpoint::StorageOptions& storage);

}  // namespace hadal::train
