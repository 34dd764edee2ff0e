// A model directory opened for reading: tensors under the published names, and a config that the files bear out. Every
// command that reads weights begins here, so that all see the same model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/checkpoint_files.h"

namespace hadal::weights {

struct Checkpoint {
  config::Config config;
  std::unique_ptr<io::CheckpointFiles> files;
  std::vector<std::string> notes;  // worth saying once, a sentence each: names that were translated, MTP that is absent
};

// Throws Error if config or files cannot be read.
Checkpoint open_checkpoint(const std::filesystem::path& directory);

// The two steps behind opening, for `verify`, which goes on when the config cannot be read. Translates names, and
// counts the MTP layers that are there: save_pretrained and most trainers leave them out whatever config.json says, and
// a config.json that is silent means those that there are. Layers that are there in part count. Returns notes.
std::vector<std::string> reconcile(config::Config& config, io::CheckpointFiles& files);

}  // namespace hadal::weights
