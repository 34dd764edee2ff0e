// What config.json says of each storage: the fields that the checkpoints of each kind carry.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "hadal/checkpoint/storage.h"
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

// compressed-tensors: a target is a module's name, an expression over it, or its class; a name comes before a class.
Json int4(const config::Config& config, const StorageOptions& o) {
  const Target head = o.head.value_or(Target::kInt8);
  Json ignore = {"re:.*mlp\\.gate$", "re:.*eh_proj$"}, int8_targets = Json::array();
  if (head == Target::kBf16) ignore.insert(ignore.end(), {Json("lm_head"), Json("re:.*shared_head\\.head$")});
  if (head == Target::kInt8) int8_targets.push_back("lm_head");
  if (head != Target::kInt4)
    for (Index i = config.num_hidden_layers; i < config.num_stored_layers(); ++i)
      int8_targets.push_back(fmt::format("re:.*layers\\.{}\\..*", i));
  Json groups = {{"group_0", int4_group({"Linear"}, o.group_size)}};
  if (!int8_targets.empty()) groups["group_1"] = int8_group(int8_targets);
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
  json.erase("quantization_config");
  if (o.target == Target::kFp8) json["quantization_config"] = fp8(o.ue8m0);
  if (o.target == Target::kInt8) json["quantization_config"] = int8_blocks();
  if (o.target == Target::kInt4) json["quantization_config"] = int4(config, o);
}

}  // namespace hadal::checkpoint
