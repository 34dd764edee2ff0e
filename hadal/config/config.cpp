#include "hadal/config/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "hadal/config/config_reader.h"
#include "hadal/io/json.h"

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

// What the published configuration class of the model type says where a file is silent (DeepSeek's own
// configuration_deepseek.py of V2 and of V3, which Kimi-K2 took over); null in a file means none.
struct ClassDefaults {
  Index n_routed_experts, n_shared_experts, num_experts_per_tok, n_group, topk_group, first_k_dense_replace;
  Index q_lora_rank;
  bool norm_topk_prob;
  double routed_scaling_factor;
  const char *topk_method, *scoring_func;
};
constexpr ClassDefaults kV2Defaults = {0, 0, 0, 1, 1, 0, 1536, false, 1.0, "greedy", "softmax"};
constexpr ClassDefaults kV3Defaults = {256, 1, 8, 8, 4, 3, 1536, true, 2.5, "noaux_tc", "sigmoid"};

void read_sizes(ConfigReader& in, Config& c, const ClassDefaults& defaults) {
  c.vocab_size = in.size("vocab_size");
  c.hidden_size = in.size("hidden_size");
  c.intermediate_size = in.size("intermediate_size");
  c.num_hidden_layers = in.size("num_hidden_layers");
  if (c.num_hidden_layers > kMostLayers)
    in.violation("num_hidden_layers is {}, more than {} cannot be meant", c.num_hidden_layers, kMostLayers);
  c.states_num_nextn_predict_layers = !in.is_silent("num_nextn_predict_layers");
  c.num_nextn_predict_layers = in.size_or("num_nextn_predict_layers", 0, 0);
  if (c.num_nextn_predict_layers > kMostLayers)
    in.violation("num_nextn_predict_layers is {}, more than {} cannot be meant", c.num_nextn_predict_layers,
                 kMostLayers);
  c.num_attention_heads = in.size("num_attention_heads");
  if (in.has("q_lora_rank"))
    c.q_lora_rank = in.size("q_lora_rank");
  else if (in.is_silent("q_lora_rank"))
    c.q_lora_rank = defaults.q_lora_rank;
  in.ignore("q_lora_rank");
  c.kv_lora_rank = in.size("kv_lora_rank");
  c.qk_nope_head_dim = in.size("qk_nope_head_dim");
  c.qk_rope_head_dim = in.size("qk_rope_head_dim");
  c.v_head_dim = in.size("v_head_dim");
  c.max_position_embeddings = in.size("max_position_embeddings");
  c.rms_norm_eps = in.number_or("rms_norm_eps", 1e-6);
  c.tie_word_embeddings = in.boolean_or("tie_word_embeddings", false);
  c.initializer_range = in.number_or("initializer_range", 0.02);
}

void read_choice(ConfigReader& in, Config& c, const ClassDefaults& defaults) {
  const std::string method = in.text_or("topk_method", defaults.topk_method);
  if (method == "greedy" || method == "gready")  // so the published V2 class spells its default
    c.topk_method = TopkMethod::kGreedy;
  else if (method == "group_limited_greedy")
    c.topk_method = TopkMethod::kGroupLimitedGreedy;
  else if (method == "noaux_tc")
    c.topk_method = TopkMethod::kNoauxTc;
  else
    in.violation("topk_method is \"{}\"; known are greedy, group_limited_greedy and noaux_tc", method);
  const std::string scoring = in.text_or("scoring_func", defaults.scoring_func);
  if (scoring == "sigmoid")
    c.scoring_func = ScoringFunc::kSigmoid;
  else if (scoring == "softmax")
    c.scoring_func = ScoringFunc::kSoftmax;
  else
    in.violation("scoring_func is \"{}\"; known are sigmoid and softmax", scoring);
}

void read_experts(ConfigReader& in, Config& c, const ClassDefaults& defaults) {
  const auto size = [&](const char* field, Index silent, Index none) {
    return in.size_or(field, in.is_silent(field) ? silent : none, none);
  };
  c.n_routed_experts = size("n_routed_experts", defaults.n_routed_experts, 0);
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
  c.first_k_dense_replace = size("first_k_dense_replace", defaults.first_k_dense_replace, 0);
  c.moe_layer_freq = in.size_or("moe_layer_freq", 1, 1);
  c.n_shared_experts = size("n_shared_experts", defaults.n_shared_experts, 0);
  const bool has_default = in.is_silent("num_experts_per_tok") && defaults.num_experts_per_tok > 0;
  c.num_experts_per_tok = has_default ? defaults.num_experts_per_tok : in.size("num_experts_per_tok");
  c.n_group = size("n_group", defaults.n_group, 1);
  c.topk_group = size("topk_group", defaults.topk_group, 1);
  c.norm_topk_prob = in.boolean_or("norm_topk_prob", defaults.norm_topk_prob);
  c.routed_scaling_factor = in.number_or("routed_scaling_factor", defaults.routed_scaling_factor);
  read_choice(in, c, defaults);
}

// What rope_scaling or rope_parameters says.
struct Rope {
  std::optional<double> theta;
  std::optional<Yarn> yarn;
};

Yarn read_yarn(ConfigReader& in) {
  Yarn y;
  y.factor = in.number("factor");
  y.original_max_position_embeddings = in.size("original_max_position_embeddings");
  y.beta_fast = in.number_or("beta_fast", 32);
  y.beta_slow = in.number_or("beta_slow", 1);
  y.mscale = in.number_or("mscale", 1);
  y.mscale_all_dim = in.number_or("mscale_all_dim", 0);
  if (y.factor < 1) in.violation("factor is {}, it cannot be below 1", y.factor);
  // Fields of other engines' YaRN that DeepSeek's own code does not know: only what changes nothing is taken.
  constexpr double kSame = 1e-6;
  for (const char* field : {"attention_factor", "attn_factor"})
    if (const double stated = in.number_or(field, y.magnitude()); std::abs(stated - y.magnitude()) > kSame)
      in.violation("{} is {}, but {} follows from factor, mscale and mscale_all_dim; another one is not supported",
                   field, stated, y.magnitude());
  if (const double stated = in.number_or("extrapolation_factor", 1); stated != 1)
    in.violation("extrapolation_factor is {}, only 1 is supported", stated);
  if (!in.boolean_or("truncate", true))
    in.violation("truncate is false; this family's YaRN rounds its range of channels");
  return y;
}

Rope read_rope_object(ConfigReader in) {
  Rope rope;
  if (in.has("rope_theta")) rope.theta = in.number("rope_theta");
  std::string type = in.text_or("rope_type", "");
  const std::string old_name = in.text_or("type", type);
  if (type.empty()) type = old_name;
  if (type != old_name) in.violation("type is \"{}\" and rope_type \"{}\"; remove one of them", old_name, type);
  if (const double part = in.number_or("partial_rotary_factor", 1); part != 1)
    in.violation("partial_rotary_factor is {}; qk_rope_head_dim says which channels are rotated", part);
  for (const std::string& field : in.fields())
    if (in.is_object(field.c_str()))
      in.violation("{} is an object; parameters that differ from layer to layer are not supported", field);
  if (type == "yarn")
    rope.yarn = read_yarn(in);
  else if (!type.empty() && type != "default")
    in.violation("type is \"{}\"; only yarn (or none) exists in this family", type);
  return rope;
}

// rope_scaling (with rope_theta beside it) or the newer rope_parameters (with rope_theta inside). Where both are there
// and differ, engines disagree about which one counts.
void read_rope(ConfigReader& in, Config& c) {
  std::vector<std::pair<const char*, Rope>> stated;
  if (in.has("rope_theta")) stated.push_back({"rope_theta", {.theta = in.number("rope_theta"), .yarn = {}}});
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (in.has(name))
      stated.emplace_back(name, read_rope_object(in.object(name)));
    else
      in.ignore(name);
  }
  const char* theta_from = nullptr;
  for (const auto& [name, rope] : stated) {
    if (!rope.theta) continue;
    if (theta_from && *rope.theta != c.rope_theta)
      in.violation("{} says that rope_theta is {}, {} says {}; remove one of them", theta_from, c.rope_theta, name,
                   *rope.theta);
    if (!theta_from) c.rope_theta = *rope.theta;
    if (!theta_from) theta_from = name;
  }
  if (in.has("rope_scaling") && in.has("rope_parameters") &&
      stated[stated.size() - 2].second.yarn != stated.back().second.yarn)
    in.violation("rope_scaling and rope_parameters are both there and differ; remove the one that is not meant");
  for (const auto& [name, rope] : stated)
    if (rope.yarn) c.yarn = rope.yarn;
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
  if (in.boolean_or("mlp_bias", false))
    in.violation("mlp_bias is true; no published model of this family has such biases");
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

namespace {

double yarn_mscale(double factor, double mscale) {
  return factor > 1 ? 0.1 * mscale * std::log(factor) + 1 : 1;
}

}  // namespace

double Yarn::magnitude() const {
  return yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
}

double Yarn::softmax_magnitude() const {
  return yarn_mscale(factor, mscale_all_dim);
}

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
  const ClassDefaults& defaults = c.model_type == "deepseek_v2" ? kV2Defaults : kV3Defaults;
  read_sizes(in, c, defaults);
  read_experts(in, c, defaults);
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

namespace {

// The snapshots of a hub cache's folder of a model (models--org--name), the one that refs/main names alone if it is
// there.
std::vector<std::filesystem::path> hub_snapshots(const std::filesystem::path& directory) {
  std::error_code status;
  const auto snapshots = directory / "snapshots", ref = directory / "refs" / "main";
  if (!std::filesystem::is_directory(snapshots, status)) return {};
  if (std::filesystem::is_regular_file(ref, status)) {
    std::string revision = io::read_text_file(ref);
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) revision.pop_back();
    if (!revision.empty() && revision.find('/') == revision.npos &&
        std::filesystem::exists(snapshots / revision / "config.json", status))
      return {snapshots / revision};
  }
  std::vector<std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(snapshots, status))
    if (std::filesystem::exists(entry.path() / "config.json", status)) all.push_back(entry.path());
  return all;
}

std::string adapter_base(const std::filesystem::path& file) {
  try {
    const auto json = io::read_json_file(file);
    const auto base = json.is_object() ? json.find("base_model_name_or_path") : json.end();
    if (base != json.end() && base->is_string()) return base->get<std::string>();
  } catch (const Error&) {
  }
  return "a model that it does not name";
}

// What a directory without config.json is instead, as far as one can see.
std::string hint(const std::filesystem::path& directory) {
  std::error_code status;
  if (const auto adapter = directory / "adapter_config.json"; std::filesystem::exists(adapter, status))
    return fmt::format(
        "; it is an adapter of {}: merge it into that model first (PEFT: merge_and_unload), then name the result",
        adapter_base(adapter));
  std::vector<std::filesystem::path> inside = hub_snapshots(directory);
  if (inside.empty())
    for (const auto& entry : std::filesystem::directory_iterator(directory, status)) {
      if (entry.is_directory(status) && std::filesystem::exists(entry.path() / "config.json", status))
        inside.push_back(entry.path());
      for (const auto& snapshot : hub_snapshots(entry.path())) inside.push_back(snapshot);
    }
  if (inside.empty()) return "";
  std::sort(inside.begin(), inside.end());
  return fmt::format("; name {}{}", inside.front().string(), inside.size() > 1 ? " or another one beside it" : "");
}

}  // namespace

Config load_config(const std::filesystem::path& path) {
  std::error_code status;
  HADAL_CHECK(std::filesystem::exists(path, status), "{}: there is no such model directory", path.string());
  const auto file = std::filesystem::is_directory(path, status) ? path / "config.json" : path;
  HADAL_CHECK(std::filesystem::exists(file, status), "{}: has no config.json, it is not a model directory{}",
              path.string(), hint(path));
  return parse_config(io::read_json_file(file), file.string());
}

}  // namespace hadal::config
