// What a checkpoint holds beyond the model, or lacks as a whole: one verdict of load, convert and verify.
#include <gmock/gmock.h>

#include "hadal/checkpoint/inspect.h"
#include "tests/support/checkpoints.h"

namespace hadal::checkpoint {
namespace surplus_test {
namespace {

using test::findings;
using test::logits;
using test::refusal;
using test::Rewritten;
using test::TemporaryDirectory;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";
const std::string kO = "model.layers.0.self_attn.o_proj.";

Tensor filled(DType dtype, const Shape& shape, std::uint8_t byte) {
  Tensor t(dtype, shape);
  std::memset(t->raw(), byte, static_cast<std::size_t>(t->num_bytes()));
  return t;
}

std::vector<std::string> notes(const std::filesystem::path& directory) {
  Context ctx(2);
  return verify_weights(ctx, directory, true, {}).notes;
}

std::string conversion_error(const std::filesystem::path& source, Target target = Target::kF32) {
  const TemporaryDirectory dir;
  try {
    test::convert(source, dir.path() / "out", {.target = target});
  } catch (const Error& e) {
    EXPECT_FALSE(std::filesystem::exists(dir.path() / "out.partial")) << "nothing may stay of what was refused";
    return e.what();
  }
  return "";
}

struct Surplus {
  const char* name;
  std::string tensor;
  Tensor (*value)();
  const char* sentence;  // nullptr: it does no harm
};

class Beyond : public ::testing::TestWithParam<Surplus> {};

TEST_P(Beyond, IsRefusedByAllOrNotedByAll) {
  const Surplus& p = GetParam();
  const Rewritten model(kModels / "v3-tiny", [&](auto& all, io::Json&) { all.emplace(p.tensor, p.value()); });
  if (!p.sentence) {
    EXPECT_EQ(refusal(model.path()), "");
    EXPECT_THAT(findings(model.path()), IsEmpty());
    EXPECT_THAT(notes(model.path()), Contains(HasSubstr(p.tensor)));
    EXPECT_EQ(conversion_error(model.path()), "");
    return;
  }
  EXPECT_THAT(refusal(model.path()), HasSubstr(p.tensor + ": " + p.sentence));
  EXPECT_THAT(findings(model.path()), Contains(HasSubstr(p.tensor + ": " + p.sentence)));
  EXPECT_THAT(conversion_error(model.path()), HasSubstr(p.tensor + ": " + p.sentence));
}

Tensor ones() {
  return filled(DType::kI32, {96}, 1);
}
Tensor zeros() {
  return filled(DType::kI32, {96}, 0);
}
Tensor eights() {
  return filled(DType::kI32, {96}, 0x88);
}
Tensor unset() {
  return filled(DType::kI32, {96}, 0xFF);
}
Tensor plain_order() {
  Tensor t(DType::kI32, {96});
  for (int i = 0; i < 96; ++i) t->data<std::int32_t>()[i] = i / 32;
  return t;
}
Tensor zero_bias() {
  return filled(DType::kF32, {256}, 0);
}
Tensor bias() {
  Tensor t = filled(DType::kF32, {256}, 0);
  t->data<float>()[255] = 1;
  return t;
}
Tensor nothing() {
  return Tensor::zeros(DType::kBF16, {0, 256});
}
Tensor scale() {
  return filled(DType::kBF16, {1}, 0x3F);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Beyond,
    ::testing::Values(
        Surplus{"ColumnIndex", kO + "weight_g_idx", ones, "has no place in the config: it is an index of columns"},
        Surplus{"ColumnIndexOfGptq", kO + "g_idx", ones, "has no place in the config: it is an index of columns"},
        Surplus{"ColumnIndexInOrder", kO + "weight_g_idx", plain_order, nullptr},
        Surplus{"ColumnIndexNeverSet", kO + "weight_g_idx", unset, nullptr},
        Surplus{"ZeroPoints", kO + "weight_zero_point", ones, "has no place in the config: it holds zero points"},
        Surplus{"ZeroPointsOfZero", kO + "weight_zero_point", zeros, nullptr},
        Surplus{"PackedZeroPointsOfZero", kO + "weight_zero_point", eights, nullptr},
        Surplus{"Offsets", kO + "weight_offset", ones, "has no place in the config: it holds zero points or offsets"},
        Surplus{"Bias", kO + "bias", bias, "has no place in the config: no linear or norm"},
        Surplus{"BiasOfZeros", kO + "bias", zero_bias, nullptr},
        Surplus{"NormBias", "model.layers.1.input_layernorm.bias", bias, "has no place in the config: no linear"},
        Surplus{"HeadBias", "lm_head.bias", bias, "has no place in the config: no linear"},
        Surplus{"Lora", kO + "lora_A.weight", bias, "has no place in the config: it is part of an adapter"},
        Surplus{"LoraWithPeftsPrefix", "base_model.model." + kO + "lora_B.default.weight", bias,
                "has no place in the config: it is part of an adapter"},
        Surplus{"SecondScale", kO + "weight_scale_2", ones, "has no place in the config; without it"},
        Surplus{"QueryNorm", "model.layers.0.self_attn.q_norm.weight", bias, "has no place in the config; without it"},
        Surplus{"Indexer", "model.layers.0.self_attn.indexer.wk.weight", bias,
                "has no place in the config; without it"},
        Surplus{"OneExpertMore", "model.layers.1.mlp.experts.16.up_proj.weight", bias,
                "has no place in the config: n_routed_experts is 16, the files hold expert 16"},
        Surplus{"OneLayerMore", "model.layers.4.input_layernorm.weight", bias,
                "has no place in the config: num_hidden_layers is 3, the files hold layer 4 too"},
        Surplus{"RotaryFrequencies", "model.layers.0.self_attn.rotary_emb.inv_freq", ones, nullptr},
        Surplus{"CacheScale", "model.layers.0.self_attn.k_scale", scale, nullptr},
        Surplus{"CacheScaleOfTheProjection", "model.layers.0.self_attn.kv_b_proj.output_scale", scale, nullptr},
        Surplus{"InputScale", kO + "input_scale", scale, nullptr},
        Surplus{"NoElements", "model.layers.0.mlp.shared_experts.up_proj.weight", nothing, nullptr},
        Surplus{"ValueHead", "value_head.weight", bias, nullptr}),
    [](const auto& p) { return p.param.name; });

TEST(Surplus, LikeSentencesBecomeOne) {
  const Rewritten model(kModels / "v3-tiny", [](auto& all, io::Json&) {
    for (int layer = 0; layer < 3; ++layer)
      all.emplace("model.layers." + std::to_string(layer) + ".self_attn.o_proj.lora_A.weight", bias());
  });
  EXPECT_THAT(refusal(model.path()), HasSubstr("layers.0.self_attn.o_proj.lora_A.weight (and 2 more): has no place"));
}

TEST(Surplus, SharedExpertsThatTheConfigDeniesAreRefused) {
  const auto with = [](const io::Json& value) {
    return Rewritten(kModels / "v3-tiny", [&](auto&, io::Json& config) { config["n_shared_experts"] = value; });
  };
  EXPECT_THAT(refusal(with(0).path()), HasSubstr("n_shared_experts is 0, the files hold shared experts"));
  EXPECT_THAT(refusal(with(nullptr).path()), HasSubstr("n_shared_experts is 0, the files hold shared experts"));
}

// n_shared_experts 0 makes transformers write matrices without rows.
TEST(Surplus, NoSharedExpertsAtAllAreNoFinding) {
  const Rewritten model(kModels / "v3-tiny", [](auto& all, io::Json& config) {
    config["n_shared_experts"] = 0;
    for (auto& [name, value] : all)
      if (name.find(".shared_experts.") != name.npos) value = Tensor::zeros(DType::kBF16, {0, 256});
  });
  EXPECT_THAT(findings(model.path()), IsEmpty());
  EXPECT_EQ(refusal(model.path()), "");
}

TEST(Surplus, ARouterMayBeWiderThanTheRest) {
  const Rewritten model(kModels / "v3-tiny", [](auto& all, io::Json&) {
    for (auto& [name, value] : all)
      if (name.ends_with("mlp.gate.weight")) value = test::as_float(value);
  });
  EXPECT_THAT(findings(model.path()), IsEmpty());
  EXPECT_EQ(logits(model.path()), logits(kModels / "v3-tiny"));
}

bool is_mtp(const std::string& name) {
  return name.starts_with("model.layers.3.");
}

class WithoutMtp : public ::testing::Test {
 protected:
  const Rewritten model{kModels / "v3-tiny", [](auto& all, io::Json&) {
                          std::erase_if(all, [](const auto& entry) { return is_mtp(entry.first); });
                        }};
};

TEST_F(WithoutMtp, EveryCommandSeesTheSameModel) {
  EXPECT_EQ(refusal(model.path()), "");
  EXPECT_THAT(findings(model.path()), IsEmpty());
  EXPECT_THAT(notes(model.path()), Contains(HasSubstr("MTP is absent: num_nextn_predict_layers is 1")));
  const Inspection in = inspect_model(model.path());
  EXPECT_EQ(in.config.num_nextn_predict_layers, 0);
  EXPECT_EQ(in.mtp_parameters, 0u);
  EXPECT_THAT(in.notes, Contains(HasSubstr("MTP is absent")));
}

TEST_F(WithoutMtp, ConvertsToADirectoryThatSaysSo) {
  for (const Target target : {Target::kFp8, Target::kInt4, Target::kBf16}) {
    const TemporaryDirectory dir;
    test::convert(model.path(), dir.path() / "out", {.target = target});
    EXPECT_EQ(io::read_json_file(dir.path() / "out/config.json")["num_nextn_predict_layers"], 0);
    EXPECT_THAT(findings(dir.path() / "out"), IsEmpty());
    EXPECT_THAT(notes(dir.path() / "out"), ::testing::Not(Contains(HasSubstr("MTP is absent"))));
  }
}

TEST(Mtp, APartOfItIsNotAbsent) {
  const Rewritten model(kModels / "v3-tiny", [](auto& all, io::Json&) {
    std::erase_if(all, [](const auto& entry) { return is_mtp(entry.first) && !entry.first.ends_with("enorm.weight"); });
  });
  EXPECT_THAT(refusal(model.path()), HasSubstr("model.layers.3.eh_proj.weight: is missing"));
  EXPECT_THAT(conversion_error(model.path()), HasSubstr("model.layers.3.eh_proj.weight: is missing"));
  EXPECT_THAT(findings(model.path()), Contains(HasSubstr("model.layers.3.eh_proj.weight: is missing")));
  EXPECT_NO_THROW(stream::load_model(model.path())) << "decoding needs no MTP";
}

TEST(Mtp, ASilentConfigMeansWhatIsThere) {
  const Rewritten silent(kModels / "v3-tiny", [](auto&, io::Json& c) { c.erase("num_nextn_predict_layers"); });
  EXPECT_THAT(findings(silent.path()), IsEmpty());
  EXPECT_EQ(logits(silent.path()), logits(kModels / "v3-tiny"));
  EXPECT_EQ(stream::load_model(silent.path(), {.mtp = true}).transformer.mtp.size(), 1u);
}

TEST(Mtp, AConfigThatDeniesItIsAFindingAndRuns) {
  const Rewritten denied(kModels / "v3-tiny", [](auto&, io::Json& c) { c["num_nextn_predict_layers"] = 0; });
  EXPECT_EQ(refusal(denied.path()), "");
  EXPECT_THAT(findings(denied.path()), Contains(HasSubstr("the files hold layer 3 as an MTP layer")));
}

class NotFinite : public ::testing::TestWithParam<Target> {};

TEST_P(NotFinite, ConversionStopsAndNamesThePlace) {
  for (const float value : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
    const std::string name = "model.layers.1.mlp.experts.3.down_proj.weight";
    const Rewritten model(kModels / "moonlight-tiny", [&](auto& all, io::Json&) {
      all.at(name)->template data<bf16>()[96 * 2 + 5] = float_to_bf16(value);
    });
    EXPECT_THAT(conversion_error(model.path(), GetParam()),
                HasSubstr(name + ": the value in row 2, column 5 is NaN or"));
    EXPECT_THAT(findings(model.path()), Contains(HasSubstr("the first in row 2, column 5")));
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, NotFinite,
                         ::testing::Values(Target::kF32, Target::kBf16, Target::kFp8, Target::kInt8, Target::kInt4));

TEST(NotFiniteParts, ScalesAndCodesAreLookedAtToo) {
  const std::string name = "model.layers.0.self_attn.o_proj.weight";
  const Rewritten scale(kModels / "v3-tiny-fp8", [&](auto& all, io::Json&) {
    all.at(name + "_scale_inv")->template data<float>()[1] = std::nanf("");
  });
  const Rewritten code(kModels / "v3-tiny-fp8",
                       [&](auto& all, io::Json&) { all.at(name)->template data<e4m3>()[7].bits = 0xFF; });
  // Both where the weight is encoded anew and where it stays as it is.
  EXPECT_THAT(conversion_error(scale.path(), Target::kFp8), HasSubstr(name + "_scale_inv: the value in row"));
  EXPECT_THAT(conversion_error(scale.path(), Target::kBf16), HasSubstr(name + ": the value in row"));
  EXPECT_THAT(conversion_error(code.path(), Target::kFp8), HasSubstr(name + ": the value in row 0, column 7"));
  EXPECT_THAT(conversion_error(code.path(), Target::kInt8), HasSubstr(name + ": the value in row 0, column 7"));
}

TEST(NotFiniteParts, NumbersThatBf16LacksAreNamed) {
  const std::string name = "model.layers.0.self_attn.o_proj.weight";
  const auto with = [&](float value) {
    return Rewritten(kModels / "v2-tiny", [&](auto& all, io::Json&) {
      all.at(name) = test::as_float(all.at(name));
      all.at(name)->template data<float>()[1] = value;
    });
  };
  EXPECT_THAT(conversion_error(with(3.4e38f).path(), Target::kBf16), HasSubstr("too large for BF16"));
  EXPECT_EQ(conversion_error(with(3.39e38f).path(), Target::kBf16), "");
  EXPECT_EQ(conversion_error(with(3.4e38f).path(), Target::kF32), "");
}

TEST(NotFiniteParts, ARoutingBiasOrGainIsRefusedAtLoading) {
  for (const char* name : {"model.layers.1.mlp.gate.e_score_correction_bias", "model.norm.weight"})
    for (const float value : {std::nanf(""), HUGE_VALF}) {
      const Rewritten model(kModels / "v3-tiny", [&](auto& all, io::Json&) {
        Tensor& vector = all.at(name);
        if (vector.dtype() == DType::kBF16) vector = test::as_float(vector);
        vector->template data<float>()[3] = value;
      });
      EXPECT_THAT(refusal(model.path()), HasSubstr(std::string(name) + ": value 3 is"));
    }
}

}  // namespace
}  // namespace surplus_test
}  // namespace hadal::checkpoint
