// What is in a model directory, or what a bare config.json describes.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/checkpoint_files.h"

namespace hadal::checkpoint {

struct Inspection {
  config::Config config;
  std::uint64_t parameters = 0;         // of the main model, scales not counted
  std::uint64_t active_parameters = 0;  // read for one token: all but the embedding table and the experts not chosen
  std::uint64_t mtp_parameters = 0;     // of the MTP layers, repeats of embedding and head included
  std::map<std::string, std::uint64_t> bytes_by_dtype;        // of the tensors in the files; empty without files
  std::map<std::string, std::uint64_t> parameters_by_format;  // how they are stored: "BF16", "INT8 (channels)", ...
  struct TensorRow {
    std::string name, dtype, shape, file;
    std::uint64_t bytes;
  };
  std::vector<TensorRow> tensors;
  std::size_t num_files = 0;
  std::vector<std::string> notes;  // how the files differ from what is published (weights/checkpoint.h)
};

// A directory with or without weights, or a config file.
Inspection inspect_model(const std::filesystem::path& path);

}  // namespace hadal::checkpoint
