// generation_config.json: how its makers want a model sampled. Every field is optional.
// https://huggingface.co/docs/transformers/main_classes/text_generation
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace hadal::io {

struct GenerationConfig {
  std::vector<std::int32_t> eos_token_ids;  // an integer or a list in the file
  std::optional<bool> do_sample;            // false: greedy
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> top_k, max_new_tokens;
  // Fields that would change what is generated, with values that do, and have no effect here.
  std::vector<std::string> unused_fields;
};

// Fields of a wrong type are one sentence (line) each, all at once.
GenerationConfig parse_generation_config(const nlohmann::ordered_json& json, const std::string& where);
// Empty if the directory has none.
GenerationConfig load_generation_config(const std::filesystem::path& directory);

}  // namespace hadal::io
