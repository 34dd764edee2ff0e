// config.json of the DeepSeek-V2/V3 family: every variant is an explicit field, named as published; nothing is inferred
// from a size or a layer count. Parsing validates once and reports every violation at once, a sentence each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "hadal/core/tensor.h"
#include "hadal/config/quantization_config.h"

namespace hadal::config {

using TokenId = std::int32_t;

enum class ScoringFunc { kSigmoid, kSoftmax };
enum class TopkMethod {
  kGreedy,              // best scores over all experts (V2-Lite)
  kGroupLimitedGreedy,  // groups ranked by their best score (V2)
  kNoauxTc,             // biased scores; groups ranked by the sum of their two best (V3)
};

// YaRN (rope_scaling / rope_parameters of type "yarn"). Its presence alone switches it on, whatever a prompt's length.
struct Yarn {
  double factor = 1;
  Index original_max_position_embeddings = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  // As DeepSeek's own code reads them, each with its default where it is silent; transformers wants both or neither.
  double mscale = 1;
  double mscale_all_dim = 0;

  // What cosine and sine are multiplied with.
  double magnitude() const;
  // The square root of what the softmax scale is multiplied with.
  double softmax_magnitude() const;

  friend bool operator==(const Yarn&, const Yarn&) = default;
};

struct Config {
  std::string model_type;  // deepseek_v2, deepseek_v3 or kimi_k2
  Index vocab_size = 0;
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index moe_intermediate_size = 0;
  Index num_hidden_layers = 0;
  Index num_nextn_predict_layers = 0;
  // The file says how many; where it is silent, the tensors do (weights/checkpoint.h).
  bool states_num_nextn_predict_layers = true;
  Index first_k_dense_replace = 0;
  Index moe_layer_freq = 1;

  Index num_attention_heads = 0;
  std::optional<Index> q_lora_rank;
  Index kv_lora_rank = 0;
  Index qk_nope_head_dim = 0;
  Index qk_rope_head_dim = 0;
  Index v_head_dim = 0;

  Index n_routed_experts = 0;  // 0: no MoE layer at all
  Index n_shared_experts = 0;
  Index num_experts_per_tok = 0;
  Index n_group = 1;
  Index topk_group = 1;
  TopkMethod topk_method = TopkMethod::kNoauxTc;
  ScoringFunc scoring_func = ScoringFunc::kSigmoid;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;

  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<Yarn> yarn;
  Index max_position_embeddings = 0;
  bool tie_word_embeddings = false;

  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;
  std::string dtype = "bfloat16";  // torch_dtype or dtype
  std::optional<Quantization> quantization;
  double initializer_range = 0.02;

  // Fields of the file, "rope_scaling.x" those of objects in it, that Hadal neither uses nor knows as harmless;
  // `inspect` and `verify` show them.
  std::vector<std::string> unknown_fields;

  // What the weights of chosen experts are multiplied with. Of DeepSeek's own modelling code V3's normalises and scales;
  // V2's does one of the two.
  double routed_scale() const {
    const bool normalised = norm_topk_prob && num_experts_per_tok > 1;
    return model_type == "deepseek_v2" && normalised ? 1 : routed_scaling_factor;
  }
  // FP8 scales of weights are powers of two, those of activations are rounded up to such.
  bool ue8m0() const { return quantization && quantization->ue8m0; }
  Index qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  // Values a token and layer in the latent cache: 576 at V3's size.
  Index kv_cache_width() const { return kv_lora_rank + qk_rope_head_dim; }
  bool is_moe_layer(Index layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  // Layers with weights: the main ones, then the MTP ones.
  Index num_stored_layers() const { return num_hidden_layers + num_nextn_predict_layers; }
};

// `where` names the document in errors. Throws Error with one sentence (line) per violation.
Config parse_config(const nlohmann::ordered_json& json, const std::string& where);
Config load_config(const std::filesystem::path& file_or_directory);

}  // namespace hadal::config
