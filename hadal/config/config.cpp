#include "hadal/config/config.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "hadal/io/json.h"
#include "hadal/config/config_reader.h"

namespace hadal::config {
namespace {

// Published fields without a meaning for Hadal: training settings, class names, values that follow from others.
constexpr std::array kHarmless = {
    "architectures",
    "attention_dropout",
    "auto_map",
    "aux_loss_alpha",
    "ep_size",
    "head_dim",
    "initializer_range",
    "num_key_value_heads",
    "pad_token_id",
    "pretraining_tp",
    "qk_head_dim",
    "seq_aux",
    "transformers_version",
    "use_cache",
    "_name_or_path",
    "unsloth_fixed",
    "output_router_logits",
    "router_aux_loss_coef",
    "return_dict",
    "is_decoder",
    "id2label",
    "label2id",
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
};

// A hostile file must not make us list billions of tensors.
constexpr Index kMostLayers = 4096;
constexpr Index kMostExperts = 1 << 16;

void read_sizes(ConfigReader& in, Config& c) {
  c.vocab_size = in.size("vocab_size");
  c.hidden_size = in.size("hidden_size");
  c.intermediate_size = in.size("intermediate_size");
  c.num_hidden_layers = in.size("num_hidden_layers");
  if (c.num_hidden_layers > kMostLayers)
    in.violation("num_hidden_layers is {}, more than {} cannot be meant", c.num_hidden_layers, kMostLayers);
  c.num_nextn_predict_layers = in.size_or("num_nextn_predict_layers", 0, 0);
  c.num_attention_heads = in.size("num_attention_heads");
  if (in.has("q_lora_rank")) c.q_lora_rank = in.size("q_lora_rank");
  c.kv_lora_rank = in.size("kv_lora_rank");
  c.qk_nope_head_dim = in.size("qk_nope_head_dim");
  c.qk_rope_head_dim = in.size("qk_rope_head_dim");
  c.v_head_dim = in.size("v_head_dim");
  c.max_position_embeddings = in.size("max_position_embeddings");
  c.rms_norm_eps = in.number_or("rms_norm_eps", 1e-6);
  c.tie_word_embeddings = in.boolean_or("tie_word_embeddings", false);
  c.initializer_range = in.number_or("initializer_range", 0.02);
}

void read_experts(ConfigReader& in, Config& c, bool is_v2) {
  c.n_routed_experts = in.size_or("n_routed_experts", 0, 0);
  if (c.n_routed_experts > kMostExperts)
    in.violation("n_routed_experts is {}, more than {} cannot be meant", c.n_routed_experts, kMostExperts);
  if (c.n_routed_experts == 0) {
    for (const char* field :
         {"n_shared_experts", "num_experts_per_tok", "n_group", "topk_group", "moe_intermediate_size",
          "first_k_dense_replace", "moe_layer_freq", "norm_topk_prob", "routed_scaling_factor"})
      in.ignore(field);
    in.text_or("topk_method", "");
    in.text_or("scoring_func", "");
    return;
  }
  c.moe_intermediate_size = in.size("moe_intermediate_size");
  c.first_k_dense_replace = in.size_or("first_k_dense_replace", 0, 0);
  c.moe_layer_freq = in.size_or("moe_layer_freq", 1, 1);
  c.n_shared_experts = in.size_or("n_shared_experts", 0, 0);
  c.num_experts_per_tok = in.size("num_experts_per_tok");
  c.n_group = in.size_or("n_group", 1, 1);
  c.topk_group = in.size_or("topk_group", 1, 1);
  c.norm_topk_prob = in.boolean_or("norm_topk_prob", !is_v2);
  c.routed_scaling_factor = in.number_or("routed_scaling_factor", 1.0);
  // The configuration classes of the two published families have different defaults where a file is silent.
  const std::string method = in.text_or("topk_method", is_v2 ? "greedy" : "noaux_tc");
  if (method == "greedy")
    c.topk_method = TopkMethod::kGreedy;
  else if (method == "group_limited_greedy")
    c.topk_method = TopkMethod::kGroupLimitedGreedy;
  else if (method == "noaux_tc")
    c.topk_method = TopkMethod::kNoauxTc;
  else
    in.violation("topk_method is \"{}\"; known are greedy, group_limited_greedy and noaux_tc", method);
  const std::string scoring = in.text_or("scoring_func", is_v2 ? "softmax" : "sigmoid");
  if (scoring == "sigmoid")
    c.scoring_func = ScoringFunc::kSigmoid;
  else if (scoring == "softmax")
    c.scoring_func = ScoringFunc::kSoftmax;
  else
    in.violation("scoring_func is \"{}\"; known are sigmoid and softmax", scoring);
}

// rope_scaling (with rope_theta beside it) or the newer rope_parameters (with rope_theta inside).
void read_rope(ConfigReader& in, Config& c) {
  c.rope_theta = in.number_or("rope_theta", 10000);
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (!in.has(name)) {
      in.ignore(name);
      continue;
    }
    ConfigReader rope = in.object(name);
    if (rope.has("rope_theta")) c.rope_theta = rope.number_or("rope_theta", c.rope_theta);
    std::string type = rope.text_or("rope_type", "");
    const std::string old_name = rope.text_or("type", type);
    if (type.empty()) type = old_name;
    if (type.empty() || type == "default") continue;
    if (type != "yarn") {
      rope.violation("type is \"{}\"; only yarn (or none) exists in this family", type);
      continue;
    }
    Yarn y;
    y.factor = rope.number("factor");
    y.original_max_position_embeddings = rope.size("original_max_position_embeddings");
    y.beta_fast = rope.number_or("beta_fast", 32);
    y.beta_slow = rope.number_or("beta_slow", 1);
    y.mscale = rope.number_or("mscale", 1);
    y.mscale_all_dim = rope.number_or("mscale_all_dim", 0);
    if (y.factor < 1) rope.violation("factor is {}, it cannot be below 1", y.factor);
    c.yarn = y;
  }
  if (!in.boolean_or("rope_interleave", true))
    in.violation("rope_interleave is false; published weights of this family have interleaved rope channels");
}

void read_tokens(ConfigReader& in, Config& c) {
  const auto checked = [&](const char* field) {
    std::vector<TokenId> ids;
    for (Index id : in.sizes_or(field, {})) {
      if (c.vocab_size > 0 && id >= c.vocab_size)
        in.violation("{} {} is not below vocab_size {}", field, id, c.vocab_size);
      ids.push_back(static_cast<TokenId>(id));
    }
    return ids;
  };
  const auto bos = checked("bos_token_id");
  if (!bos.empty()) c.bos_token_id = bos.front();
  c.eos_token_ids = checked("eos_token_id");
}

void refuse_other_architectures(ConfigReader& in) {
  if (in.has("index_topk") || in.has("index_n_heads") || in.has("index_head_dim"))
    in.violation(
        "index_topk: DeepSeek-V3.2's sparse attention (DSA) is not supported; V2, V3, R1, V3.1, Moonlight and Kimi-K2 "
        "are");
  if (in.boolean_or("attention_bias", false))
    in.violation("attention_bias is true; no published model of this family has such biases");
  const std::string act = in.text_or("hidden_act", "silu");
  if (act != "silu") in.violation("hidden_act is \"{}\", only silu exists in this family", act);
}

void check_relations(ConfigReader& in, const Config& c) {
  const Index heads = in.size_or("num_key_value_heads", c.num_attention_heads, 1);
  if (heads != c.num_attention_heads)
    in.violation("num_key_value_heads is {} and num_attention_heads {}: in MLA they are equal", heads,
                 c.num_attention_heads);
  if (c.qk_rope_head_dim % 2 != 0)
    in.violation("qk_rope_head_dim is {}, rotation needs an even number", c.qk_rope_head_dim);
  if (c.n_routed_experts == 0) return;
  if (c.num_experts_per_tok > c.n_routed_experts)
    in.violation("num_experts_per_tok {} is more than n_routed_experts {}", c.num_experts_per_tok, c.n_routed_experts);
  if (c.topk_method == TopkMethod::kGreedy || c.n_group <= 1) return;
  if (c.n_routed_experts % c.n_group != 0)
    return in.violation("n_routed_experts {} does not divide into n_group {}", c.n_routed_experts, c.n_group);
  if (c.topk_group > c.n_group)
    in.violation("topk_group {} is more than n_group {}", c.topk_group, c.n_group);
  else if (c.num_experts_per_tok > c.topk_group * (c.n_routed_experts / c.n_group))
    in.violation("num_experts_per_tok {} is more than the {} experts of topk_group {} groups", c.num_experts_per_tok,
                 c.topk_group * (c.n_routed_experts / c.n_group), c.topk_group);
}

}  // namespace

Config parse_config(const nlohmann::ordered_json& json, const std::string& where) {
  HADAL_CHECK(json.is_object(), "{}: a JSON object was expected", where);
  std::vector<std::string> violations;
  ConfigReader in(json, "", violations);
  Config c;
  c.model_type = in.text_or("model_type", "");
  const std::set<std::string> families = {"deepseek_v2", "deepseek_v3", "kimi_k2"};
  // Every further complaint about another architecture's file would be noise.
  HADAL_CHECK(families.contains(c.model_type),
              "{}: model_type \"{}\" is not supported{}; deepseek_v2, deepseek_v3 and kimi_k2 are", where, c.model_type,
              c.model_type == "deepseek_v32" ? " (V3.2's sparse attention)" : "");
  read_sizes(in, c);
  read_experts(in, c, c.model_type == "deepseek_v2");
  read_rope(in, c);
  c.quantization = read_quantization(in);
  read_tokens(in, c);
  c.dtype = in.text_or("torch_dtype", "");
  const std::string newer = in.text_or("dtype", c.dtype);
  c.dtype = newer.empty() ? "bfloat16" : newer;
  refuse_other_architectures(in);
  if (violations.empty()) check_relations(in, c);
  for (const char* field : kHarmless) in.ignore(field);
  c.unknown_fields = in.unread_fields();
  if (!violations.empty()) {
    std::string text;
    for (const std::string& v : violations) text += (text.empty() ? "" : "\n") + where + ": " + v;
    throw Error(text);
  }
  return c;
}

Config load_config(const std::filesystem::path& path) {
  std::error_code status;
  HADAL_CHECK(std::filesystem::exists(path, status), "{}: there is no such model directory", path.string());
  const auto file = std::filesystem::is_directory(path, status) ? path / "config.json" : path;
  HADAL_CHECK(std::filesystem::exists(file, status), "{}: has no config.json, it is not a model directory",
              path.string());
  return parse_config(io::read_json_file(file), file.string());
}

}  // namespace hadal::config
