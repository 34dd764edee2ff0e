#include "hadal/config/quantization_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "hadal/config/config.h"

namespace hadal::config {
namespace quantization_config_test {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Config parse(const std::string& quantization) {
  std::ifstream file(HADAL_TEST_DATA "/shapes/deepseek-v3-671b.json");
  Json json = Json::parse(file);
  json["quantization_config"] = Json::parse(quantization);
  return parse_config(json, "config.json");
}

// As published with Kimi-K2-Thinking.
const std::string kKimi = R"({
  "config_groups": {"group_0": {"input_activations": null, "output_activations": null, "targets": ["Linear"],
    "weights": {"actorder": null, "block_structure": null, "dynamic": false, "group_size": 32, "num_bits": 4,
                "observer": "minmax", "observer_kwargs": {}, "strategy": "group", "symmetric": true, "type": "int"}}},
  "format": "pack-quantized",
  "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"],
  "kv_cache_scheme": null, "quant_method": "compressed-tensors", "quantization_status": "compressed"})";

TEST(QuantizationConfig, ReadsWhatIsPublished) {
  EXPECT_THAT(parse(kKimi).quantization->schemes, ElementsAre(WeightScheme{WeightFormat::kInt4Packed, 32}));
  EXPECT_THAT(
      parse(R"({"quant_method": "blockwise_int8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]})")
          .quantization->schemes,
      ElementsAre(WeightScheme{WeightFormat::kInt8Blocks, 0}));
  EXPECT_THAT(parse(R"({"quant_method": "w8a8_int8"})").quantization->schemes,
              ElementsAre(WeightScheme{WeightFormat::kInt8Channels, 0}));
  EXPECT_THAT(parse(R"({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": true, "version": "gemm",
                        "modules_to_not_convert": ["self_attn.kv_b_proj"]})")
                  .quantization->schemes,
              ElementsAre(WeightScheme{WeightFormat::kAwq, 64}));
}

TEST(QuantizationConfig, ReadsSeveralFormatsInOneModel) {
  Json json = Json::parse(kKimi);
  json["format"] = "mixed-precision";
  json["config_groups"]["group_0"]["format"] = "pack-quantized";
  json["config_groups"]["group_1"] = {
      {"targets", {"lm_head"}},
      {"format", "int-quantized"},
      {"weights", {{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}, {"symmetric", true}}}};
  const Config config = parse(json.dump());
  EXPECT_THAT(config.quantization->schemes,
              ElementsAre(WeightScheme{WeightFormat::kInt4Packed, 32}, WeightScheme{WeightFormat::kInt8Channels, 0}));
  EXPECT_EQ(config.quantization->description(), "INT4 (pack-quantized, groups of 32), INT8 (channels)");
}

TEST(QuantizationConfig, ReadsEightBitsInEveryPackage) {
  const auto scheme = [](const char* format, Json weights) {
    const Json json = {{"quant_method", "compressed-tensors"},
                       {"format", format},
                       {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", std::move(weights)}}}}}};
    const Config config = parse(json.dump());
    EXPECT_THAT(config.unknown_fields, ::testing::IsEmpty());
    return config.quantization->schemes.at(0);
  };
  const auto bits = [](const char* type, const char* strategy) {
    return Json{{"num_bits", 8}, {"type", type}, {"symmetric", true}, {"strategy", strategy}};
  };
  Json block = bits("float", "block"), group = bits("int", "group");
  block["block_structure"] = {128, 128};
  group["group_size"] = 64;
  EXPECT_EQ(scheme("float-quantized", block), WeightScheme{WeightFormat::kFp8Blocks});
  EXPECT_EQ(scheme("float-quantized", bits("float", "channel")), WeightScheme{WeightFormat::kFp8Channels});
  EXPECT_EQ(scheme("float-quantized", bits("float", "tensor")), WeightScheme{WeightFormat::kFp8Channels});
  EXPECT_EQ(scheme("pack-quantized", bits("int", "channel")), WeightScheme{WeightFormat::kInt8Packed});
  EXPECT_EQ(scheme("pack-quantized", group), (WeightScheme{WeightFormat::kInt8Packed, 64}));
  EXPECT_EQ(scheme("int-quantized", bits("int", "channel")), WeightScheme{WeightFormat::kInt8Channels});
}

TEST(QuantizationConfig, TheOldNameHidesNothing) {
  std::ifstream file(HADAL_TEST_DATA "/shapes/deepseek-v3-671b.json");
  Json json = Json::parse(file);
  json.erase("quantization_config");
  json["compression_config"] = Json::parse(kKimi);
  EXPECT_EQ(parse_config(json, "c").quantization->description(), "INT4 (pack-quantized, groups of 32)");
  json["compression_config"] = {{"quantization_config", Json::parse(kKimi)}};
  EXPECT_EQ(parse_config(json, "c").quantization->description(), "INT4 (pack-quantized, groups of 32)");
  json["compression_config"]["quantization_config"]["config_groups"]["group_0"]["weights"]["symmetric"] = false;
  EXPECT_THROW(parse_config(json, "c"), Error);
  json["compression_config"] = Json::parse(kKimi);
  json["quantization_config"] = {{"quant_method", "fp8"}};
  EXPECT_THROW(parse_config(json, "c"), Error);
}

TEST(QuantizationConfig, OrdersThatLeaveColumnsWhereTheyWereAreRead) {
  for (const Json& order : {Json("weight"), Json("static"), Json(false), Json(nullptr)}) {
    Json json = Json::parse(kKimi);
    json["config_groups"]["group_0"]["weights"]["actorder"] = order;
    EXPECT_NO_THROW(parse(json.dump())) << order;
  }
}

struct Refusal {
  const char* name;
  std::function<void(Json&)> change;
  const char* sentence;
};

class QuantizationRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(QuantizationRefusal, IsOneSentence) {
  Json json = Json::parse(kKimi);
  GetParam().change(json);
  try {
    parse(json.dump());
    FAIL() << "was accepted";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(GetParam().sentence));
  }
}

Json& weights(Json& j) {
  return j["config_groups"]["group_0"]["weights"];
}

INSTANTIATE_TEST_SUITE_P(
    Table, QuantizationRefusal,
    ::testing::Values(
        Refusal{"Asymmetric", [](Json& j) { weights(j)["symmetric"] = false; },
                "config_groups.group_0.weights.symmetric is false"},
        Refusal{"GroupSize", [](Json& j) { weights(j)["group_size"] = 48; }, "weights.group_size is 48"},
        Refusal{"ActOrder", [](Json& j) { weights(j)["actorder"] = "group"; }, "actorder is \"group\""},
        Refusal{"ActOrderByAlias", [](Json& j) { weights(j)["actorder"] = "dynamic"; }, "actorder is \"dynamic\""},
        Refusal{"ActOrderAsAFlag", [](Json& j) { weights(j)["actorder"] = true; }, "actorder is \"true\""},
        Refusal{"Dynamic", [](Json& j) { weights(j)["dynamic"] = true; }, "dynamic is not false"},
        Refusal{"Wording", [](Json& j) { weights(j)["num_bits"] = 5; }, "group_0.weights: 5 bits of type int"},
        Refusal{"Bits", [](Json& j) { weights(j)["num_bits"] = 3; }, "3 bits of type int"},
        Refusal{"Float", [](Json& j) { weights(j)["type"] = "float"; }, "4 bits of type float"},
        Refusal{"Format", [](Json& j) { j["format"] = "marlin-24"; }, "format \"marlin-24\""},
        Refusal{"Sparse", [](Json& j) { j["sparsity_config"] = {{"format", "sparse-24-bitmask"}}; },
                "sparsity_config.format is \"sparse-24-bitmask\""},
        Refusal{"Rotations", [](Json& j) { j["transform_config"] = {{"config_groups", {{"R1", 1}}}}; },
                "transform_config is not supported"},
        Refusal{"NoGroups", [](Json& j) { j.erase("config_groups"); }, "config_groups is not an object"},
        Refusal{"GroupsOfAnotherKind", [](Json& j) { j["config_groups"] = {1, 2}; }, "config_groups is not an object"},
        Refusal{"Int8Blocks",
                [](Json& j) { j = {{"quant_method", "blockwise_int8"}, {"weight_block_size", {64, 64}}}; },
                "weight_block_size must be [128, 128]"},
        Refusal{"StaticActivations",
                [](Json& j) { j = {{"quant_method", "w8a8_int8"}, {"activation_scheme", "static"}}; },
                "only dynamic is supported"},
        Refusal{"AwqGroups", [](Json& j) { j = {{"quant_method", "awq"}, {"group_size", 16}}; },
                "groups of 32, 64 and 128 are supported"},
        Refusal{"AwqWithoutZeros", [](Json& j) { j = {{"quant_method", "awq"}, {"zero_point", false}}; },
                "zero_point is false"}),
    [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace quantization_config_test
}  // namespace hadal::config
