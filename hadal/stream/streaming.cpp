#include "hadal/stream/streaming.h"

#include <set>

#include "hadal/core/log.h"

namespace hadal::stream {

using model::Block;
using model::FeedForward;
using model::Moe;
using model::Mtp;
using model::Transformer;
using weights::ParamInfo;
using weights::Weight;
namespace {

struct Sizes {
  std::uint64_t resident = 0, routed = 0;
};

// Distinct tensors of the mappings; the head may be the embedding.
Sizes mapped_sizes(Transformer& t, const io::CheckpointFiles& files) {
  Sizes sizes;
  std::set<const void*> seen;
  t.for_each_param([&](const std::string&, Weight& weight, const ParamInfo& info) {
    weight.for_each_tensor([&](const ConstTensorRef& tensor) {
      if (seen.insert(tensor.address()).second && place_in_files(tensor, files))
        (info.routed_expert ? sizes.routed : sizes.resident) += static_cast<std::uint64_t>(tensor.num_bytes());
    });
  });
  return sizes;
}

std::vector<Moe*> moe_layers(Transformer& t) {
  std::vector<Moe*> layers;
  for (Block& block : t.layers)
    if (block.moe) layers.push_back(&*block.moe);
  for (Mtp& module : t.mtp)
    if (module.block.moe) layers.push_back(&*module.block.moe);
  return layers;
}

// Experts were bound by address only: those whose elements are not aligned in the file get a copy.
void make_readable(Transformer& t, const io::CheckpointFiles& files) {
  for (Moe* moe : moe_layers(t))
    for (FeedForward& expert : moe->experts)
      for_each_tensor(expert, [&](ConstTensorRef& tensor) {
        const auto place = place_in_files(tensor, files);
        if (!place || place->offset % dtype_bytes(tensor.dtype()) == 0) return;
        const io::SafetensorsFile& shard = files.shards()[static_cast<std::size_t>(place->shard)];
        tensor = shard.tensor(*shard.tensor_at(place->offset));
      });
}

// Nothing of the experts stays from loading; the rest is asked for early.
void settle_pages(Transformer& t, const io::CheckpointFiles& files) {
  for (const io::SafetensorsFile& shard : files.shards()) shard.release();
  t.for_each_param([&](const std::string&, Weight& weight, const ParamInfo& info) {
    if (info.routed_expert) return;
    weight.for_each_tensor([&](const ConstTensorRef& tensor) {
      if (const auto place = place_in_files(tensor, files))
        files.shards()[static_cast<std::size_t>(place->shard)].will_need(
            place->offset, static_cast<std::uint64_t>(tensor.num_bytes()));
    });
  });
}

// One file per model: its place and the sizes of its files tell it from others.
std::filesystem::path counts_file(const io::CheckpointFiles& files, const std::filesystem::path& directory) {
  if (directory.empty()) return {};
  std::error_code status;
  std::string identity = std::filesystem::weakly_canonical(files.directory(), status).string();
  for (const io::SafetensorsFile& shard : files.shards())
    identity += fmt::format("\n{} {}", shard.path().filename().string(), shard.identity().size);
  return directory / fmt::format("experts-{:016x}", checksum(identity));
}

// The store's numbers of the model's layers, MTP's included; -1: dense.
std::vector<Index> store_layers(const Transformer& t) {
  std::vector<Index> number;
  Index next = 0;
  for (const Block& block : t.layers) number.push_back(block.moe ? next++ : -1);
  for (const Mtp& module : t.mtp) number.push_back(module.block.moe ? next++ : -1);
  return number;
}

}  // namespace

Streaming stream_experts(Transformer& t, const io::CheckpointFiles& files, std::uint64_t owned_bytes,
                         const StreamOptions& options, Context* rearranger) {
  const Sizes sizes = mapped_sizes(t, files);
  const std::vector<Moe*> moes = moe_layers(t);
  if (options.memory == 0 || sizes.routed == 0 || sizes.resident + sizes.routed + owned_bytes <= options.memory) {
    make_readable(t, files);
    return {};
  }
  std::vector<std::span<FeedForward>> layers;
  for (Moe* moe : moes) layers.push_back(moe->experts);
  const ExpertStoreOptions store_options{.memory = options.memory,
                                         .strict = options.strict,
                                         .resident_bytes = sizes.resident + owned_bytes,
                                         .counts_file = counts_file(files, options.counts_directory),
                                         .backend = options.backend,
                                         .ctx = rearranger};
  std::unique_ptr<ExpertStore> store;
  try {
    store = std::make_unique<ExpertStore>(files, std::move(layers), t.config.num_experts_per_tok, store_options);
  } catch (const Error& e) {
    if (options.strict) throw;
    log_warning("{}; its weights are paged by the system, which is slow", e.what());
    make_readable(t, files);
    return {};
  }
  auto experts = std::make_unique<StreamedExperts>(t, *store, store_layers(t));
  t.experts = experts.get();
  settle_pages(t, files);
  return {std::move(store), std::move(experts)};
}

}  // namespace hadal::stream
