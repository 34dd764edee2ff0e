// A model directory as published: config.json and safetensors. Weights are used where the files lie in memory (mmap):
// FP8, INT8 and packed INT4 stay what they are; only vectors and their scales are copied, as float32. AWQ alone is
// repacked, as its layout runs across a product's inputs: such a model lies in memory of its own, and so does any that
// the kernels get rearranged.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/io/checkpoint_files.h"
#include "hadal/stream/streaming.h"

namespace hadal::stream {

using model::Transformer;

struct LoadOptions {
  // What of the model to bind; empty: all of it. Matrices are whole in the files, a shard is a slice of their rows.
  std::optional<model::Part> part = {};
  bool mtp = false;  // bind the MTP layers too; otherwise they are left out, as plain decoding does not need them
  bool mtp_expected = true;  // that a checkpoint lacks its MTP layers is worth a warning then
  // With a limit of memory that the model does not fit into, routed experts are read when they are needed.
  StreamOptions stream = {};
  // Whose threads repack AWQ, and on whose device the weights are to be, which must outlive the model then; null: the
  // calling thread, the host.
  Context* ctx = nullptr;
  // Rearrange weights for ctx's kernels (row_groups.h). If routed experts are streamed, ctx must outlive the model.
  bool rearrange = false;
};

// Move-only; the transformer's weights point into `files` and `owned`, those of routed experts into `store` if there is
// one.
struct LoadedModel {
  Transformer transformer;
  std::unique_ptr<io::CheckpointFiles> files;
  std::vector<Tensor> owned;
  std::unique_ptr<ExpertStore> store = {};
  std::unique_ptr<StreamedExperts> streamed = {};
  // A share of the memory beside the weights, in which prompts may keep what their next chunk needs again
  // (infer::EngineOptions::kept_bytes).
  std::uint64_t kept_bytes = 0;
};

// Throws Error with one sentence (line) per missing tensor, wrong shape, dtype or scale, all at once. So does a tensor
// that the config has no place for, unless it does no harm to leave it out (weights/faults.h); `hadal verify` lists
// those.
LoadedModel load_model(const std::filesystem::path& directory, const LoadOptions& options = {});

}  // namespace hadal::stream
