// model.safetensors.index.json: which shard holds which tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace hadal::io {

inline constexpr const char* kIndexFile = "model.safetensors.index.json";

// Tensor name to file name. File names with a path are refused: a model directory may be anything's work.
std::map<std::string, std::string> read_weight_index(const std::filesystem::path& path);
// The same from the document's text; `where` opens the error sentences.
std::map<std::string, std::string> parse_weight_index(std::string_view text, const std::string& where);

// Written atomically; `total_bytes` becomes metadata.total_size.
void write_weight_index(const std::filesystem::path& path, const std::map<std::string, std::string>& weight_map,
                        std::uint64_t total_bytes);

}  // namespace hadal::io
