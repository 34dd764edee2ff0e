#include "hadal/checkpoint/inspect.h"

#include <algorithm>

#include "hadal/model/transformer.h"
#include "hadal/weights/checkpoint.h"
#include "hadal/weights/stored_param.h"

namespace hadal::checkpoint {
namespace {

void count_parameters(Inspection& out) {
  const config::Config& c = out.config;
  for (const weights::ParamSpec& spec : model::parameter_list(c)) {
    const auto n = static_cast<std::uint64_t>(spec.info.shape.num_elements());
    if (spec.info.layer >= c.num_hidden_layers) {
      out.mtp_parameters += n;
      continue;
    }
    const bool tied_head = spec.info.role == weights::ParamRole::kHead && c.tie_word_embeddings;
    if (!tied_head) out.parameters += n;
    if (spec.info.role == weights::ParamRole::kEmbedding) continue;
    // Of all routed experts together a token reads the share that it chooses.
    out.active_parameters += spec.info.routed_expert ? 0 : n;
  }
  std::uint64_t moe_layers = 0;
  for (Index i = 0; i < c.num_hidden_layers; ++i) moe_layers += c.is_moe_layer(i);
  out.active_parameters +=
      moe_layers * static_cast<std::uint64_t>(3 * c.hidden_size * c.moe_intermediate_size * c.num_experts_per_tok);
}

void count_formats(const io::CheckpointFiles& files, Inspection& out) {
  for (const weights::ParamSpec& spec : model::parameter_list(out.config)) {
    const auto stored = weights::find_stored(spec, files);
    if (!stored) continue;
    const std::string format = stored->scheme.format == config::WeightFormat::kFloat
                                   ? std::string(dtype_name(files.info(stored->values)->dtype))
                                   : config::scheme_name(stored->scheme);
    out.parameters_by_format[format] += static_cast<std::uint64_t>(spec.info.shape.num_elements());
  }
}

}  // namespace

Inspection inspect_model(const std::filesystem::path& path) {
  Inspection out;
  if (!io::CheckpointFiles::exist(path)) {
    out.config = config::load_config(path);
    count_parameters(out);
    return out;
  }
  const weights::Checkpoint checkpoint = weights::open_checkpoint(path);
  const io::CheckpointFiles& files = *checkpoint.files;
  out.config = checkpoint.config;
  out.notes = checkpoint.notes;
  count_parameters(out);
  out.num_files = files.shards().size();
  count_formats(files, out);
  for (const auto& [shard, info] : files.in_file_order()) {
    out.bytes_by_dtype[std::string(dtype_name(info->dtype))] += info->end - info->begin;
    out.tensors.push_back({info->name, std::string(dtype_name(info->dtype)), info->shape.to_string(),
                           shard->path().filename().string(), info->end - info->begin});
  }
  std::sort(out.tensors.begin(), out.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

}  // namespace hadal::checkpoint
