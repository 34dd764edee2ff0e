#include "hadal/perf/work.h"

#include <charconv>

namespace hadal::perf {
namespace {

double stored_bytes(const std::string&, const weights::Weight& weight, const weights::ParamInfo&) {
  double bytes = 0;
  for (const ConstTensorRef& part : {weight.any_form(), weight.any_scale(), weight.any_zero()})
    if (part) bytes += static_cast<double>(part.num_bytes());
  return bytes;
}

// The number behind `key`: "model.layers.3.mlp.experts.7.up_proj.weight", ".experts." -> 7.
Index number_after(std::string_view name, std::string_view key) {
  const std::size_t at = name.find(key);
  HADAL_CHECK(at != name.npos, "{}: has no \"{}\"", name, key);
  Index value = 0;
  std::from_chars(name.data() + at + key.size(), name.data() + name.size(), value);
  return value;
}

Phase phase_of(const std::string& name, const weights::ParamInfo& info) {
  switch (info.role) {
    case weights::ParamRole::kNorm:
    case weights::ParamRole::kRouter:
    case weights::ParamRole::kRouterBias:
      return Phase::kNorms;
    case weights::ParamRole::kEmbedding:
      return Phase::kEmbedding;
    case weights::ParamRole::kHead:
      return Phase::kHead;
    default:
      break;
  }
  if (name.find(".self_attn.") != name.npos) return Phase::kProjections;
  const bool shared = name.find(".shared_experts.") != name.npos;
  return info.routed_expert || shared ? Phase::kExperts : Phase::kFeedForward;
}

double real(Index n) {
  return static_cast<double>(n);
}

}  // namespace

PassWork& PassWork::operator+=(const PassWork& other) {
  for (std::size_t i = 0; i < phases.size(); ++i) phases[i] += other.phases[i];
  return *this;
}

Work PassWork::linears() const {
  Work sum;
  for (std::size_t i = 0; i < phases.size(); ++i)
    if (static_cast<Phase>(i) != Phase::kAttention) sum += phases[i];
  return sum;
}

void TouchedExperts::on_value(std::string_view name, const ConstTensorRef& value) {
  if (name != "topk_idx") return;
  const auto chosen = value.view<std::int32_t, 2>();
  for (Index t = 0; t < chosen.shape[0]; ++t)
    for (Index s = 0; s < chosen.shape[1]; ++s) add(layer_, chosen(t, s));
}

void TouchedExperts::clear() {
  for (auto& experts : of_layer_) experts.clear();
}

ModelWork::ModelWork(model::Transformer& transformer) : ModelWork(transformer, stored_bytes) {
  // A tied head is the embedding's memory, read whole.
  if (head_.bytes == 0) head_.bytes = stored_bytes("", transformer.lm_head.weight, {});
}

ModelWork::ModelWork(model::Transformer& transformer, const BytesOf& bytes_of)
    : config_(transformer.config),
      expert_bytes_(static_cast<std::size_t>(config_.num_hidden_layers),
                    std::vector<double>(static_cast<std::size_t>(config_.n_routed_experts))) {
  transformer.for_each_param([&](const std::string& name, weights::Weight& weight, const weights::ParamInfo& info) {
    if (info.layer < config_.num_hidden_layers) add(name, info, bytes_of(name, weight, info));
  });
}

void ModelWork::add(const std::string& name, const weights::ParamInfo& info, double bytes) {
  const double flops = is_matrix(info.role) ? 2 * real(info.shape.num_elements()) : 0;
  total_bytes_ += bytes;
  if (info.routed_expert) {
    expert_bytes_[static_cast<std::size_t>(info.layer)][static_cast<std::size_t>(number_after(name, ".experts."))] +=
        bytes;
    expert_flops_ += flops * real(config_.num_experts_per_tok) / real(config_.n_routed_experts);
    return;
  }
  switch (const Phase phase = phase_of(name, info)) {
    case Phase::kEmbedding:
      embedding_row_ = bytes / real(config_.vocab_size);
      break;
    case Phase::kHead:
      head_ = {bytes, flops};
      break;
    default:
      once_[phase] += {bytes, flops};
  }
}

PassWork ModelWork::rows(Index count, const TouchedExperts& touched) const {
  PassWork work = once_;
  for (Work& phase : work.phases) phase.flops *= real(count);
  work[Phase::kEmbedding].bytes = embedding_row_ * real(count);
  work[Phase::kExperts].flops += expert_flops_ * real(count);
  for (Index layer = 0; layer < config_.num_hidden_layers; ++layer)
    for (const Index expert : touched.of_layer(layer))
      work[Phase::kExperts].bytes += expert_bytes_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)];
  return work;
}

PassWork ModelWork::decode_step(std::span<const Index> visible, const TouchedExperts& touched,
                                double cache_value_bytes) const {
  const auto sequences = static_cast<Index>(visible.size());
  PassWork work = rows(sequences, touched);
  work[Phase::kHead] = {head_.bytes, head_.flops * real(sequences)};
  const double per_key = real(config_.num_attention_heads * (config_.kv_cache_width() + config_.kv_lora_rank));
  for (const Index keys : visible) {
    const double all_layers = real(keys * config_.num_hidden_layers);
    work[Phase::kAttention] +=
        {all_layers * real(config_.kv_cache_width()) * cache_value_bytes, all_layers * per_key * 2};
  }
  return work;
}

PassWork ModelWork::prompt(Index length, const TouchedExperts& touched) const {
  PassWork work = rows(length, touched);
  work[Phase::kHead] = head_;
  const double pairs = real(length) * real(length + 1) / 2;
  work[Phase::kAttention].flops = 2 * pairs * real(config_.num_hidden_layers * config_.num_attention_heads) *
                                  real(config_.qk_head_dim() + config_.v_head_dim);
  return work;
}

}  // namespace hadal::perf
