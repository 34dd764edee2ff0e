#include "hadal/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/temporary_directory.h"

namespace hadal::config {
namespace config_test {
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

TEST(Config, UnknownFieldsInsideObjectsAreReported) {
  Json json = v3();
  json["rope_scaling"]["finetuned"] = true;
  json["quantization_config"]["rotation"] = 1;
  EXPECT_THAT(parse_config(json, "config.json").unknown_fields,
              ::testing::UnorderedElementsAre("rope_scaling.finetuned", "quantization_config.rotation"));
}

// DeepSeek's configuration_deepseek.py of V3, which Kimi-K2 took over, and of V2.
TEST(Config, SilentFieldsAreThoseOfThePublishedClass) {
  for (const char* type : {"deepseek_v3", "kimi_k2"}) {
    Json json = v3();
    json["model_type"] = type;
    for (const char* field : {"q_lora_rank", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group",
                              "topk_group", "first_k_dense_replace", "norm_topk_prob", "routed_scaling_factor",
                              "topk_method", "scoring_func", "moe_layer_freq", "num_nextn_predict_layers"})
      json.erase(field);
    const Config c = parse_config(json, "config.json");
    EXPECT_EQ(c.q_lora_rank, 1536);
    EXPECT_EQ(c.n_routed_experts, 256);
    EXPECT_EQ(c.n_shared_experts, 1);
    EXPECT_EQ(c.num_experts_per_tok, 8);
    EXPECT_EQ(c.n_group, 8);
    EXPECT_EQ(c.topk_group, 4);
    EXPECT_EQ(c.first_k_dense_replace, 3);
    EXPECT_TRUE(c.norm_topk_prob);
    EXPECT_EQ(c.routed_scaling_factor, 2.5);
    EXPECT_EQ(c.topk_method, TopkMethod::kNoauxTc);
    EXPECT_EQ(c.scoring_func, ScoringFunc::kSigmoid);
    EXPECT_FALSE(c.states_num_nextn_predict_layers);
  }
  std::ifstream file(kShapes + "deepseek-v2-lite.json");
  Json json = Json::parse(file);
  for (const char* field : {"n_shared_experts", "n_group", "topk_group", "first_k_dense_replace", "norm_topk_prob",
                            "routed_scaling_factor", "topk_method", "scoring_func", "q_lora_rank"})
    json.erase(field);
  const Config c = parse_config(json, "config.json");
  EXPECT_EQ(c.q_lora_rank, 1536);
  EXPECT_EQ(c.n_shared_experts, 0);
  EXPECT_EQ(c.n_group, 1);
  EXPECT_EQ(c.first_k_dense_replace, 0);
  EXPECT_FALSE(c.norm_topk_prob);
  EXPECT_EQ(c.routed_scaling_factor, 1.0);
  EXPECT_EQ(c.topk_method, TopkMethod::kGreedy);
  EXPECT_EQ(c.scoring_func, ScoringFunc::kSoftmax);
  json.erase("num_experts_per_tok");
  EXPECT_THAT(error_of(json), HasSubstr("num_experts_per_tok is missing"));
}

TEST(Config, NullIsAStatementOfItsOwn) {
  Json json = v3();
  for (const char* field : {"q_lora_rank", "n_group", "topk_group", "n_shared_experts"}) json[field] = nullptr;
  const Config c = parse_config(json, "config.json");
  EXPECT_FALSE(c.q_lora_rank);
  EXPECT_EQ(c.n_group, 1);
  EXPECT_EQ(c.topk_group, 1);
  EXPECT_EQ(c.n_shared_experts, 0);
  json["n_routed_experts"] = nullptr;
  EXPECT_EQ(parse_config(json, "config.json").n_routed_experts, 0);
}

TEST(Config, ThePublishedMisspellingOfGreedyIsRead) {
  Json json = v3();
  json["topk_method"] = "gready";
  EXPECT_EQ(parse_config(json, "config.json").topk_method, TopkMethod::kGreedy);
}

// modeling_deepseek.py of V2: "if norm_topk_prob: divide by the sum, else: multiply by the factor"; of V3: both.
TEST(Config, V2NormalisesOrScalesAndV3DoesBoth) {
  Json json = v3();
  EXPECT_EQ(parse_config(json, "config.json").routed_scale(), 2.5);
  json["model_type"] = "deepseek_v2";
  json["topk_method"] = "greedy";
  json["scoring_func"] = "softmax";
  EXPECT_EQ(parse_config(json, "config.json").routed_scale(), 1);
  json["num_experts_per_tok"] = 1;
  EXPECT_EQ(parse_config(json, "config.json").routed_scale(), 2.5);
  json["num_experts_per_tok"] = 8;
  json["norm_topk_prob"] = false;
  EXPECT_EQ(parse_config(json, "config.json").routed_scale(), 2.5);
}

// modeling_deepseek.py: mscale is 1 and mscale_all_dim 0 where they are silent, and 0 counts as no stretch at all.
TEST(Config, OneMscaleAloneIsReadAsDeepSeeksCodeReadsIt) {
  Json json = v3();
  Json& rope = json["rope_scaling"];
  const double log = std::log(40.0);
  rope["mscale"] = 0.707;
  rope.erase("mscale_all_dim");
  Yarn y = *parse_config(json, "config.json").yarn;
  EXPECT_DOUBLE_EQ(y.magnitude(), 0.0707 * log + 1);
  EXPECT_DOUBLE_EQ(y.softmax_magnitude(), 1);
  rope.erase("mscale");
  rope["mscale_all_dim"] = 0.707;
  y = *parse_config(json, "config.json").yarn;
  EXPECT_DOUBLE_EQ(y.magnitude(), (0.1 * log + 1) / (0.0707 * log + 1));
  EXPECT_DOUBLE_EQ(y.softmax_magnitude(), 0.0707 * log + 1);
  rope["attention_factor"] = y.magnitude();
  EXPECT_EQ(error_of(json), "");
}

TEST(Config, TwoStatementsAboutRopeMayAgree) {
  Json json = v3();
  json["rope_parameters"] = json["rope_scaling"];
  json["rope_parameters"]["rope_theta"] = json["rope_theta"];
  EXPECT_EQ(error_of(json), "");
  json["rope_parameters"]["rope_theta"] = 50000.0;
  EXPECT_THAT(error_of(json), HasSubstr("rope_theta says that rope_theta is 10000, rope_parameters says 50000"));
  json["rope_parameters"]["rope_theta"] = json["rope_theta"];
  json["rope_parameters"]["factor"] = 8;
  EXPECT_THAT(error_of(json), HasSubstr("rope_scaling and rope_parameters are both there and differ"));
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", json["rope_theta"]}};
  EXPECT_THAT(error_of(json), HasSubstr("rope_scaling and rope_parameters are both there and differ"));
}

class NoModel : public ::testing::Test {
 protected:
  std::string error() const {
    try {
      load_config(dir_.path());
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((dir_.path() / file).parent_path());
    std::ofstream(dir_.path() / file) << text;
  }
  test::TemporaryDirectory dir_;
};

TEST_F(NoModel, AFolderOfTheHubCacheNamesItsSnapshot) {
  write("snapshots/old/config.json", "{}");
  write("snapshots/new/config.json", "{}");
  EXPECT_THAT(error(), HasSubstr("snapshots/new or another one beside it"));
  write("refs/main", "old\n");
  EXPECT_THAT(error(), ::testing::EndsWith("snapshots/old"));
  write("refs/main", "../../etc");
  EXPECT_THAT(error(), HasSubstr("snapshots/new or another one beside it"));
}

TEST_F(NoModel, TheHubCacheItselfAndParentsNameAModelInside) {
  write("models--a--b/snapshots/abc/config.json", "{}");
  EXPECT_THAT(error(), ::testing::EndsWith("models--a--b/snapshots/abc"));
  write("a/config.json", "{}");
  EXPECT_THAT(error(), HasSubstr("/a or another one beside it"));
}

TEST_F(NoModel, AnAdapterNamesItsBase) {
  write("adapter_config.json", R"({"base_model_name_or_path": "deepseek-ai/DeepSeek-V2-Lite"})");
  EXPECT_THAT(error(), HasSubstr("it is an adapter of deepseek-ai/DeepSeek-V2-Lite: merge it"));
  for (const char* text : {"[1]", "{", R"({"base_model_name_or_path": 1})"}) {
    write("adapter_config.json", text);
    EXPECT_THAT(error(), HasSubstr("it is an adapter of a model that it does not name"));
  }
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
        Refusal{"MlpBias", [](Json& j) { j["mlp_bias"] = true; }, "mlp_bias is true"},
        Refusal{"AttentionFactor", [](Json& j) { j["rope_scaling"]["attention_factor"] = 1.5; },
                "rope_scaling.attention_factor is 1.5, but 1 follows"},
        Refusal{"Truncate", [](Json& j) { j["rope_scaling"]["truncate"] = false; }, "rope_scaling.truncate is false"},
        Refusal{"TwoRopeTypes", [](Json& j) { j["rope_scaling"]["rope_type"] = "default"; },
                "rope_scaling.type is \"yarn\" and rope_type \"default\""},
        Refusal{"PartialRotary", [](Json& j) { j["rope_scaling"]["partial_rotary_factor"] = 0.5; },
                "partial_rotary_factor is 0.5"},
        Refusal{"RopeByLayer", [](Json& j) { j["rope_scaling"]["full_attention"] = {{"factor", 2}}; },
                "rope_scaling.full_attention is an object"},
        Refusal{"HugeMtp", [](Json& j) { j["num_nextn_predict_layers"] = 1000000; },
                "num_nextn_predict_layers is 1000000"},
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
}  // namespace config_test
}  // namespace hadal::config
