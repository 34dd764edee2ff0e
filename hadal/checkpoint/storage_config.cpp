// What config.json says of each storage: the fields that the checkpoints of each kind carry.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "hadal/checkpoint/storage.h"
#include "hadal/model/transformer.h"
#include "hadal/ops/weight.h"

namespace hadal::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

Json fp8(bool ue8m0) {
  Json q = {{"quant_method", "fp8"},
            {"fmt", "e4m3"},
            {"activation_scheme", "dynamic"},
            {"weight_block_size", {ops::kBlock, ops::kBlock}}};
  if (ue8m0) q["scale_fmt"] = "ue8m0";
  return q;
}

Json int8_blocks() {
  return {{"quant_method", "blockwise_int8"},
          {"activation_scheme", "dynamic"},
          {"weight_block_size", {ops::kBlock, ops::kBlock}}};
}

Json int4_group(const Json& targets, Index group_size) {
  return {{"targets", targets},
          {"weights",
           {{"num_bits", 4},
            {"type", "int"},
            {"symmetric", true},
            {"strategy", "group"},
            {"group_size", group_size},
            {"dynamic", false}}},
          {"input_activations", nullptr},
          {"output_activations", nullptr},
          {"format", "pack-quantized"}};
}

// Other engines run int-quantized weights with INT8 activations only, and want to read so.
Json int8_group(const Json& targets) {
  return {
      {"targets", targets},
      {"weights", {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}, {"dynamic", false}}},
      {"input_activations",
       {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}}},
      {"output_activations", nullptr},
      {"format", "int-quantized"}};
}

// "model.layers.3.mlp.experts.7.down_proj.weight": layer 3, "mlp.experts.7.down_proj" with its numbers as an
// expression.
struct ModuleKind {
  Index layer = -1;
  std::string expression;
};

ModuleKind kind_of(const weights::ParamSpec& spec) {
  std::string name = spec.name.substr(0, spec.name.rfind(".weight"));
  if (spec.info.layer >= 0) name = name.substr(fmt::format("model.layers.{}.", spec.info.layer).size());
  ModuleKind kind{spec.info.layer, ""};
  for (const char c : name)
    if (c >= '0' && c <= '9') {
      if (!kind.expression.ends_with("\\d+")) kind.expression += "\\d+";
    } else {
      kind.expression += c == '.' ? std::string("\\.") : std::string(1, c);
    }
  return kind;
}

// Which matrices are not stored as most are: names, or expressions over them, by scheme.
class Exceptions {
 public:
  Exceptions(const config::Config& config, const StorageOptions& o) {
    const config::WeightScheme usual{config::WeightFormat::kInt4Packed, o.group_size};
    const bool mtp_is_int8 = o.head != Target::kInt4;
    for (const weights::ParamSpec& spec : model::parameter_list(config)) {
      const bool linear = spec.info.role == weights::ParamRole::kLinear;
      const bool head = spec.info.role == weights::ParamRole::kHead && o.head == Target::kInt4;
      if (!(linear && !(mtp_is_int8 && spec.info.layer >= config.num_hidden_layers)) && !head) continue;
      const config::WeightScheme scheme = encoding_of(spec.info, config, o).scheme;
      const ModuleKind kind = kind_of(spec);
      if (scheme != usual) layers_[{scheme.group_size, kind.expression}].insert(kind.layer);
    }
  }
  // Targets of matrices in groups of `size`; 0: of those in INT8.
  Json targets(Index size) const {
    Json all = Json::array();
    for (const auto& [key, layers] : layers_) {
      if (key.first != size) continue;
      std::string list;
      for (const Index layer : layers) list += fmt::format("{}{}", list.empty() ? "" : "|", layer);
      all.push_back(layers.contains(-1) ? fmt::format("re:.*{}$", key.second)
                                        : fmt::format("re:.*layers\\.({})\\.{}$", list, key.second));
    }
    return all;
  }

 private:
  std::map<std::pair<Index, std::string>, std::set<Index>> layers_;
};

// compressed-tensors: a target is a module's name, an expression over it, or its class; a name comes before a class.
Json int4(const config::Config& config, const StorageOptions& o) {
  const Target head = o.head.value_or(Target::kInt8);
  const Exceptions exceptions(config, o);
  Json ignore = {"re:.*mlp\\.gate$", "re:.*eh_proj$"}, int8_targets = Json::array();
  if (head == Target::kBf16) ignore.insert(ignore.end(), {Json("lm_head"), Json("re:.*shared_head\\.head$")});
  if (head == Target::kInt8) int8_targets.push_back("lm_head");
  if (head != Target::kInt4)
    for (Index i = config.num_hidden_layers; i < config.num_stored_layers(); ++i)
      int8_targets.push_back(fmt::format("re:.*layers\\.{}\\..*", i));
  for (const Json& target : exceptions.targets(0)) int8_targets.push_back(target);
  Json groups = {{"group_0", int4_group({"Linear"}, o.group_size)}};
  if (!int8_targets.empty()) groups["group_1"] = int8_group(int8_targets);
  for (const Index size : config::kGroupSizes)
    if (const Json targets = exceptions.targets(size); !targets.empty())
      groups[fmt::format("group_{}", groups.size())] = int4_group(targets, size);
  return {{"quant_method", "compressed-tensors"},
          {"format", int8_targets.empty() ? "pack-quantized" : "mixed-precision"},
          {"quantization_status", "compressed"},
          {"config_groups", groups},
          {"ignore", ignore},
          {"kv_cache_scheme", nullptr}};
}

}  // namespace

void set_storage(Json& json, const config::Config& config, const StorageOptions& o) {
  const char* field = json.contains("dtype") && !json.contains("torch_dtype") ? "dtype" : "torch_dtype";
  json[field] = o.target == Target::kF32 ? "float32" : "bfloat16";
  for (const char* name : {"quantization_config", "compression_config"}) json.erase(name);
  if (o.target == Target::kFp8) json["quantization_config"] = fp8(o.ue8m0);
  if (o.target == Target::kInt8) json["quantization_config"] = int8_blocks();
  if (o.target == Target::kInt4) json["quantization_config"] = int4(config, o);
}

}  // namespace hadal::checkpoint
