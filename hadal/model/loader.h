// A model directory as published: config.json and safetensors. Weights are used where the files lie in memory (mmap):
// FP8 stays FP8; only vectors and scales are copied, as float32.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "hadal/io/checkpoint_files.h"
#include "hadal/model/streaming.h"

namespace hadal::model {

struct LoadOptions {
  bool mtp = false;  // bind the MTP layers too; otherwise they are left out, as plain decoding does not need them
  // With a limit of memory that the model does not fit into, routed experts are read when they are needed.
  StreamOptions stream = {};
};

// Move-only; the transformer's weights point into `files` and `owned`, those of routed experts into `store` if there is
// one.
struct LoadedModel {
  Transformer transformer;
  std::unique_ptr<io::CheckpointFiles> files;
  std::vector<Tensor> owned;
  std::unique_ptr<ExpertStore> store = nullptr;
};

// Throws Error with one sentence (line) per missing tensor, wrong shape, dtype or scale, all at once. Tensors that the
// config has no place for (rotary_emb.inv_freq among them) are ignored here; `hadal verify` lists them.
LoadedModel load_model(const std::filesystem::path& directory, const LoadOptions& options = {});

// The scales of a weight as float32, however they are stored (F32, BF16 or UE8M0).
Tensor float_scale(const TensorRef& stored);

// What is wrong with one parameter in a checkpoint, empty if nothing: presence, shape, dtype and the scale's. Shared
// with `verify`.
std::vector<std::string> parameter_faults(const ParamSpec& spec, const io::CheckpointFiles& files);

}  // namespace hadal::model
