// Casting a model directory to another format, as a stream: memory stays bounded whatever the model's size, an
// interrupted run goes on at the last finished file, the destination is complete or absent.
#pragma once

#include <filesystem>
#include <optional>

#include "hadal/checkpoint/calibration.h"
#include "hadal/checkpoint/model_directory.h"
#include "hadal/checkpoint/storage.h"

namespace hadal::checkpoint {

struct ConvertOptions {
  StorageOptions storage;
  // Matrices that become INT4 are quantised by what they are multiplied with on this text (gptq.h), instead of each
  // weight to nearest.
  std::optional<CalibrationText> calibration = {};
  std::uint64_t shard_bytes = 5'000'000'000;
};

// Every format that can be loaded is a source. To BF16 is the F32 product of code and scale, rounded once; to FP8, INT8
// and INT4 quantises what StorageOptions says, and weights that are stored so already stay as they are (unless `ue8m0`
// asks for other scales). Tokenizer and other small files come along.
void convert_model(Context& ctx, const std::filesystem::path& source, const std::filesystem::path& destination,
                   const ConvertOptions& options, const Progress& progress);

}  // namespace hadal::checkpoint
