// model.safetensors.index.json: which shard holds which tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace hadal::io {

inline constexpr const char* kIndexFile = "model.safetensors.index.json";

// Tensor name to file name. File names with a path are refused: a model directory may be anything's work.
std::map<std::string, std::string> read_weight_index(const std::filesystem::path& path);

// Written atomically; `total_bytes` becomes metadata.total_size.
void write_weight_index(const std::filesystem::path& path, const std::map<std::string, std::string>& weight_map,
                        std::uint64_t total_bytes);

}  // namespace hadal::io
