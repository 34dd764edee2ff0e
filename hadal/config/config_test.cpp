#include "hadal/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

namespace hadal::config {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

const std::string kShapes = HADAL_TEST_DATA "/shapes/";

Json v3() {
  std::ifstream file(kShapes + "deepseek-v3-671b.json");
  return Json::parse(file);
}

std::string error_of(const Json& json) {
  try {
    parse_config(json, "config.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Config, ReadsEveryPublishedShape) {
  const Config v3 = load_config(kShapes + "deepseek-v3-671b.json");
  EXPECT_EQ(v3.kv_cache_width(), 576);
  EXPECT_EQ(v3.q_lora_rank, 1536);
  EXPECT_EQ(v3.topk_method, TopkMethod::kNoauxTc);
  EXPECT_TRUE(v3.quantization && !v3.ue8m0());
  EXPECT_FALSE(v3.is_moe_layer(2));
  EXPECT_TRUE(v3.is_moe_layer(3));
  EXPECT_TRUE(v3.unknown_fields.empty());
  const Config lite = load_config(kShapes + "deepseek-v2-lite.json");
  EXPECT_FALSE(lite.q_lora_rank);
  EXPECT_TRUE(lite.unknown_fields.empty());
  EXPECT_EQ(lite.topk_method, TopkMethod::kGreedy);
  EXPECT_EQ(lite.scoring_func, ScoringFunc::kSoftmax);
  EXPECT_EQ(load_config(kShapes + "deepseek-v2-236b.json").topk_method, TopkMethod::kGroupLimitedGreedy);
  EXPECT_EQ(load_config(kShapes + "kimi-k2-1t.json").n_routed_experts, 384);
  EXPECT_FALSE(load_config(kShapes + "moonlight-16b-a3b.json").yarn);
  EXPECT_DOUBLE_EQ(load_config(kShapes + "moonlight-16e.json").rms_norm_eps, 1e-5);
}

TEST(Config, Rule26_TheRoutingBiasFollowsTopkMethodNotTheWidth) {
  Json json = v3();
  json["hidden_size"] = 256;
  EXPECT_EQ(parse_config(json, "config.json").topk_method, TopkMethod::kNoauxTc);
}

TEST(Config, ReadsRopeParametersAsRopeScaling) {
  const Json old = v3();
  Json json = old;
  json["rope_parameters"] = old["rope_scaling"];
  json["rope_parameters"].erase("type");
  json["rope_parameters"]["rope_type"] = "yarn";
  json["rope_parameters"]["rope_theta"] = 50000.0;
  json.erase("rope_scaling");
  json.erase("rope_theta");
  const Config c = parse_config(json, "config.json");
  ASSERT_TRUE(c.yarn);
  EXPECT_EQ(c.yarn->original_max_position_embeddings, 4096);
  EXPECT_DOUBLE_EQ(c.rope_theta, 50000);
}

TEST(Config, ReadsBothNamesOfTheDtype) {
  Json json = v3();
  EXPECT_EQ(parse_config(json, "config.json").dtype, "bfloat16");
  json.erase("torch_dtype");
  json["dtype"] = "float32";
  EXPECT_EQ(parse_config(json, "config.json").dtype, "float32");
}

TEST(Config, ReadsTheScaleFormatOfV31) {
  Json json = v3();
  json["quantization_config"]["scale_fmt"] = "ue8m0";
  EXPECT_TRUE(parse_config(json, "config.json").ue8m0());
}

TEST(Config, KeepsUnknownFields) {
  Json json = v3();
  json["flux_capacitance"] = 1.21;
  EXPECT_THAT(parse_config(json, "config.json").unknown_fields, ::testing::ElementsAre("flux_capacitance"));
}

TEST(Config, ReportsEveryContradictionAtOnce) {
  Json json = v3();
  json["hidden_size"] = -1;
  json["topk_method"] = "lucky";
  json["rope_scaling"]["type"] = "linear";
  json.erase("vocab_size");
  const std::string text = error_of(json);
  EXPECT_THAT(text, HasSubstr("hidden_size is -1"));
  EXPECT_THAT(text, HasSubstr("topk_method is \"lucky\""));
  EXPECT_THAT(text, HasSubstr("rope_scaling.type is \"linear\""));
  EXPECT_THAT(text, HasSubstr("vocab_size is missing"));
}

struct Refusal {
  const char* name;
  std::function<void(Json&)> change;
  const char* sentence;
};

class ConfigRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefusal, IsOneSentence) {
  Json json = v3();
  GetParam().change(json);
  EXPECT_THAT(error_of(json), HasSubstr(GetParam().sentence));
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigRefusal,
    ::testing::Values(
        Refusal{"OtherFamily", [](Json& j) { j["model_type"] = "llama"; }, "model_type \"llama\" is not supported"},
        Refusal{"V32ByType", [](Json& j) { j["model_type"] = "deepseek_v32"; }, "sparse attention"},
        Refusal{"V32ByField", [](Json& j) { j["index_topk"] = 2048; }, "sparse attention"},
        Refusal{"Gptq", [](Json& j) { j["quantization_config"] = {{"quant_method", "gptq"}}; },
                "quant_method \"gptq\" is not supported"},
        Refusal{"BlockSize", [](Json& j) { j["quantization_config"]["weight_block_size"] = {64, 64}; },
                "weight_block_size must be"},
        Refusal{"Gelu", [](Json& j) { j["hidden_act"] = "gelu"; }, "hidden_act is \"gelu\""},
        Refusal{"Bias", [](Json& j) { j["attention_bias"] = true; }, "attention_bias is true"},
        Refusal{"Interleave", [](Json& j) { j["rope_interleave"] = false; }, "rope_interleave is false"},
        Refusal{"Groups", [](Json& j) { j["n_group"] = 7; }, "n_routed_experts 256 does not divide into n_group 7"},
        Refusal{"TooManyPicks", [](Json& j) { j["topk_group"] = 1, j["num_experts_per_tok"] = 33; },
                "more than the 32 experts"},
        Refusal{"KeyHeads", [](Json& j) { j["num_key_value_heads"] = 8; }, "in MLA they are equal"},
        Refusal{"OddRope", [](Json& j) { j["qk_rope_head_dim"] = 63; }, "rotation needs an even number"},
        Refusal{"EosBeyondVocab", [](Json& j) { j["eos_token_id"] = 129280; }, "eos_token_id 129280 is not below"},
        Refusal{"FloatSize", [](Json& j) { j["num_hidden_layers"] = 61.5; }, "num_hidden_layers is 61.5"},
        Refusal{"HugeSize", [](Json& j) { j["n_routed_experts"] = 1000000000000; },
                "n_routed_experts is 1000000000000"},
        Refusal{"TextSize", [](Json& j) { j["vocab_size"] = "many"; }, "vocab_size is \"many\""}),
    [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace hadal::config
