// Batches from a safetensors file: `step<i>.ids` and `step<i>.targets` [B, S], or `ids` and `targets` for one step, in
// any integer dtype; a target of -100 is none.
#pragma once

#include <filesystem>
#include <vector>

#include "hadal/train/objective.h"

namespace hadal::train {

// The first `steps` of them. Throws Error that names file, tensor and fix.
std::vector<Batch> read_batches(const std::filesystem::path& path, Index steps, Index vocab_size);

}  // namespace hadal::train
