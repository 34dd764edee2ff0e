// Random weights of any config, for tests of real widths and as the start of training.
#pragma once

#include <filesystem>

#include "hadal/checkpoint/model_directory.h"
#include "hadal/checkpoint/storage.h"

namespace hadal::checkpoint {

struct InitOptions {
  std::uint64_t seed = 0;
  StorageOptions storage;
  double std = -1;                // of all matrices; negative: the config's initializer_range
  std::uint64_t shard_bytes = 0;  // 0: one file
};

// Normal matrices, unit norms, zero routing biases. The bytes are a function of config, seed and options alone: element
// i of a tensor is drawn from (seed, tensor's place in the model, i), whatever the number of threads.
void init_model(Context& ctx, const std::filesystem::path& config_file, const std::filesystem::path& directory,
                const InitOptions& options, const Progress& progress);

}  // namespace hadal::checkpoint
