#include "hadal/weights/checkpoint.h"

#include <fmt/format.h>

#include "hadal/weights/published_names.h"

namespace hadal::weights {
namespace {

Index stored_mtp_layers(const config::Config& config, const io::CheckpointFiles& files) {
  const auto there = [&](Index depth, const char* part) {
    return files.has_prefix(fmt::format("model.layers.{}.{}", config.num_hidden_layers + depth, part));
  };
  Index stored = 0;
  if (!config.states_num_nextn_predict_layers) {
    // A further layer of another kind is no MTP layer.
    while (there(stored, "eh_proj.")) ++stored;
    return stored;
  }
  for (Index depth = 0; depth < config.num_nextn_predict_layers; ++depth)
    if (there(depth, "")) stored = depth + 1;
  return stored;
}

}  // namespace

std::vector<std::string> reconcile(config::Config& config, io::CheckpointFiles& files) {
  std::vector<std::string> notes = use_published_names(files, config);
  const Index stored = stored_mtp_layers(config, files), stated = config.num_nextn_predict_layers;
  if (stored < stated)
    notes.push_back(
        fmt::format("MTP is absent: num_nextn_predict_layers is {}, but the files have no tensor of layer {}; the rest "
                    "of the model is complete without it",
                    stated, config.num_hidden_layers + stored));
  config.num_nextn_predict_layers = stored;
  return notes;
}

Checkpoint open_checkpoint(const std::filesystem::path& directory) {
  Checkpoint out{config::load_config(directory), std::make_unique<io::CheckpointFiles>(directory), {}};
  out.notes = reconcile(out.config, *out.files);
  return out;
}

}  // namespace hadal::weights
