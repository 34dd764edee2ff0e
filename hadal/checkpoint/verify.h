// What is wrong with the weights of a model directory: shapes, scale grids, codes and values that no training gives.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hadal/checkpoint/model_directory.h"
#include "hadal/core/context.h"

namespace hadal::checkpoint {

struct Verification {
  std::vector<std::string> findings;  // one sentence each
  std::vector<std::string> notes;     // worth knowing, not wrong
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;
};

// Reads every byte (`quick`: the headers alone) with bounded resident memory. Throws if the directory cannot be read at
// all.
Verification verify_weights(Context& ctx, const std::filesystem::path& directory, bool quick, const Progress& progress);

}  // namespace hadal::checkpoint
