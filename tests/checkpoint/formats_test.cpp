// INT8, INT4 and AWQ checkpoints: made, loaded, run, verified and turned back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "hadal/checkpoint/convert.h"
#include "hadal/checkpoint/init.h"
#include "hadal/checkpoint/inspect.h"
#include "hadal/checkpoint/verify.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/eval/logits.h"
#include "hadal/io/json.h"
#include "hadal/stream/loader.h"
#include "hadal/weights/stored_param.h"
#include "tests/support/awq.h"
#include "tests/support/checkpoints.h"

namespace hadal::checkpoint {
namespace formats_test {
namespace {

using test::as_float;
using test::convert;
using test::findings;
using test::largest_difference;
using test::logits;
using test::refusal;
using test::Rewritten;
using test::TemporaryDirectory;
using test::tensors;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Path = std::filesystem::path;
using Tensors = std::map<std::string, Tensor>;

const Path kMini = HADAL_SOURCE_DIR "/models/mini";
const Path kModels = HADAL_TEST_DATA "/golden/models";

// Quantised and dequantised weights are the same numbers; only the order of sums differs (logits spread by 0.8).
constexpr double kLogitTolerance = 2e-4;
// INT4 weights, and only they, meet an x of 16 bits in AVX2.
constexpr double kWordsTolerance = 5e-4;

// That both hold the same numbers: by the reference, and by the kernels that run.
void expect_same_logits(const Path& a, const Path& b) {
  EXPECT_LE(largest_difference(logits(a, false, Isa::kRef), logits(b, false, Isa::kRef)), kLogitTolerance);
  EXPECT_LE(largest_difference(logits(a), logits(b)), best_isa() == Isa::kAvx2 ? kWordsTolerance : kLogitTolerance);
}

using Case = std::tuple<const char*, StorageOptions>;

class Requantised : public ::testing::TestWithParam<Case> {};

TEST_P(Requantised, RunsAsTheDequantisedModelDoes) {
  const auto& [name, storage] = GetParam();
  const TemporaryDirectory dir;
  convert(kModels / name, dir.path() / "q", storage);
  EXPECT_THAT(findings(dir.path() / "q"), IsEmpty());
  convert(dir.path() / "q", dir.path() / "f32", {.target = Target::kF32});
  EXPECT_FALSE(io::read_json_file(dir.path() / "f32/config.json").contains("quantization_config"));
  expect_same_logits(dir.path() / "q", dir.path() / "f32");
  EXPECT_GT(largest_difference(logits(dir.path() / "q"), logits(kModels / name)), 1e-3) << "nothing was quantised";
  // What is stored so already stays as it is.
  convert(dir.path() / "q", dir.path() / "again", storage);
  EXPECT_TRUE(tensors(dir.path() / "again") == tensors(dir.path() / "q"));
}

INSTANTIATE_TEST_SUITE_P(Models, Requantised,
                         ::testing::Values(Case{"v3-tiny", {.target = Target::kInt8}},
                                           Case{"v3-tiny-fp8", {.target = Target::kInt8, .head = Target::kInt8}},
                                           Case{"moonlight-tiny", {.target = Target::kInt4}},
                                           Case{"v3-tiny", {.target = Target::kInt4, .group_size = 128}},
                                           Case{"v3-tiny-fp8",
                                                {.target = Target::kInt4, .group_size = 64, .head = Target::kInt4}},
                                           Case{"v2-tiny", {.target = Target::kInt4, .head = Target::kBf16}}),
                         [](const auto& p) { return "case" + std::to_string(p.index); });

TEST(Int8, ValuesAreTheProductOfCodeAndScale) {
  const TemporaryDirectory dir;
  convert(kModels / "v3-tiny", dir.path() / "q", {.target = Target::kInt8});
  convert(dir.path() / "q", dir.path() / "f32", {.target = Target::kF32});
  const io::CheckpointFiles from(dir.path() / "q"), to(dir.path() / "f32");
  int checked = 0;
  for (const std::string& name : from.names()) {
    if (from.info(name)->dtype != DType::kI8) continue;
    const auto codes = from.find(name).view<std::int8_t, 2>();
    const auto scale = from.find(name + "_scale_inv").view<float, 2>();
    const auto got = to.find(name).view<float, 2>();
    for (Index r = 0; r < codes.shape[0]; ++r)
      for (Index c = 0; c < codes.shape[1]; ++c, ++checked)
        ASSERT_EQ(got(r, c), static_cast<float>(codes(r, c)) * scale(r / 128, c / 128));
  }
  EXPECT_GT(checked, 500000);
}

TEST(Int4, ValuesAreTheProductOfCodeAndScale) {
  const TemporaryDirectory dir;
  convert(kModels / "v3-tiny", dir.path() / "q", {.target = Target::kInt4});
  convert(dir.path() / "q", dir.path() / "f32", {.target = Target::kF32});
  const io::CheckpointFiles from(dir.path() / "q"), to(dir.path() / "f32");
  int checked = 0;
  for (const std::string& name : to.names()) {
    if (!from.contains(name + "_packed")) continue;
    const auto words = from.find(name + "_packed").view<std::int32_t, 2>();
    const auto scale = from.find(name + "_scale").view<bf16, 2>();
    const auto got = to.find(name).view<float, 2>();
    for (Index r = 0; r < got.shape[0]; ++r)
      for (Index c = 0; c < got.shape[1]; ++c, ++checked) {
        const int code = static_cast<int>(static_cast<std::uint32_t>(words(r, c / 8)) >> (4 * (c % 8)) & 15u) - 8;
        ASSERT_EQ(got(r, c), static_cast<float>(code) * bf16_to_float(scale(r, c / 32)));
      }
  }
  EXPECT_GT(checked, 500000);
}

TEST(Int8, IsTheLayoutOfTheBlockInt8Checkpoints) {
  const TemporaryDirectory dir;
  convert(kMini, dir.path() / "q", {.target = Target::kInt8});
  const io::CheckpointFiles files(dir.path() / "q");
  for (const char* cast :
       {"model.layers.0.self_attn.kv_b_proj.weight", "model.layers.4.mlp.experts.3.down_proj.weight"}) {
    EXPECT_EQ(files.info(cast)->dtype, DType::kI8) << cast;
    EXPECT_EQ(files.info(std::string(cast) + "_scale_inv")->dtype, DType::kF32) << cast;
  }
  for (const char* kept : {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight",
                           "model.layers.1.mlp.gate.weight", "model.layers.4.eh_proj.weight"})
    EXPECT_EQ(files.info(kept)->dtype, DType::kBF16) << kept;
  const io::Json q = io::read_json_file(dir.path() / "q/config.json")["quantization_config"];
  EXPECT_EQ(q["quant_method"], "blockwise_int8");
  EXPECT_EQ(q["weight_block_size"], io::Json({128, 128}));
}

TEST(Int4, Rule42a_TheHeadAndTheMtpLayerStayAtEightBits) {
  const TemporaryDirectory dir;
  convert(kMini, dir.path() / "q", {.target = Target::kInt4});
  const io::CheckpointFiles files(dir.path() / "q");
  EXPECT_TRUE(files.contains("model.layers.3.mlp.experts.3.down_proj.weight_packed"));
  EXPECT_EQ(files.info("model.layers.3.mlp.experts.3.down_proj.weight_shape")->dtype, DType::kI64);
  for (const char* eight :
       {"lm_head.weight", "model.layers.4.shared_head.head.weight", "model.layers.4.mlp.experts.3.down_proj.weight",
        "model.layers.4.self_attn.o_proj.weight"}) {
    EXPECT_EQ(files.info(eight)->dtype, DType::kI8) << eight;
    EXPECT_EQ(files.info(std::string(eight) + "_scale")->shape.back(), 1) << eight;
  }
  EXPECT_EQ(files.info("model.layers.4.eh_proj.weight")->dtype, DType::kBF16);
  const io::Json q = io::read_json_file(dir.path() / "q/config.json")["quantization_config"];
  EXPECT_EQ(q["format"], "mixed-precision");
  EXPECT_EQ(q["config_groups"]["group_0"]["weights"]["group_size"], 32);
  EXPECT_EQ(q["config_groups"]["group_1"]["targets"][0], "lm_head");
  const auto formats = inspect_model(dir.path() / "q").parameters_by_format;
  EXPECT_TRUE(formats.contains("INT4 (pack-quantized, groups of 32)"));
  EXPECT_TRUE(formats.contains("INT8 (channels)"));

  convert(kMini, dir.path() / "all", {.target = Target::kInt4, .head = Target::kInt4});
  const io::CheckpointFiles all(dir.path() / "all");
  EXPECT_TRUE(all.contains("lm_head.weight_packed"));
  EXPECT_TRUE(all.contains("model.layers.4.self_attn.o_proj.weight_packed"));
}

TEST(Init, IntegerModelsLoadAndVerify) {
  const TemporaryDirectory dir;
  Context ctx(2);
  for (const auto& [name, target] : {std::pair{"int8", Target::kInt8}, {"int4", Target::kInt4}}) {
    init_model(ctx, kMini / "config.json", dir.path() / name, {.seed = 3, .storage = {.target = target}}, {});
    EXPECT_THAT(findings(dir.path() / name), IsEmpty());
    EXPECT_EQ(refusal(dir.path() / name), "");
  }
}

TEST(Storage, OptionsThatContradictAreSentences) {
  const auto error = [](const StorageOptions& o) {
    try {
      check_storage(o);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(error({.target = Target::kInt4, .group_size = 48}), HasSubstr("group: 48 is not supported"));
  EXPECT_THAT(error({.target = Target::kInt8, .head = Target::kInt4}), HasSubstr("int4 in an int4 model"));
  EXPECT_THAT(error({.target = Target::kFp8, .head = Target::kInt8}), HasSubstr("goes with int8 and int4"));
}

// The linears of a BF16 model as AWQ (`float_values`: as the float32 numbers that AWQ stands for).
Rewritten::Edit to_awq(Index group, bool float_values) {
  return [=](std::map<std::string, Tensor>& all, io::Json& config) {
    std::vector<std::string> names;
    for (const auto& [name, value] : all)
      if (name.ends_with("_proj.weight") && !name.ends_with("eh_proj.weight") && !name.ends_with("kv_b_proj.weight") &&
          value.size(1) % group == 0)
        names.push_back(name);
    ASSERT_GT(names.size(), 10u);
    for (const std::string& name : names) {
      const Tensor w = as_float(all.at(name));
      test::AwqTensors t = test::make_awq(w->data<float>(), w.size(0), w.size(1), group);
      all.erase(name);
      if (float_values) {
        all.emplace(name, std::move(t.values));
        continue;
      }
      all.emplace(weights::awq_name(name, "qweight"), std::move(t.qweight));
      all.emplace(weights::awq_name(name, "qzeros"), std::move(t.qzeros));
      all.emplace(weights::awq_name(name, "scales"), std::move(t.scales));
    }
    if (!float_values)
      config["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4},
                                       {"group_size", group},   {"version", "gemm"},
                                       {"zero_point", true},    {"modules_to_not_convert", {"kv_b_proj"}}};
  };
}

TEST(Awq, RunsAsTheNumbersItStandsFor) {
  for (const auto& [name, group] : {std::pair{"v2-lite-tiny", Index{64}}, {"v3-tiny", Index{32}}}) {
    const Rewritten awq(kModels / name, to_awq(group, false)), floats(kModels / name, to_awq(group, true));
    EXPECT_THAT(findings(awq.path()), IsEmpty());
    expect_same_logits(awq.path(), floats.path());
    const TemporaryDirectory dir;
    convert(awq.path(), dir.path() / "f32", {.target = Target::kF32});
    convert(floats.path(), dir.path() / "same", {.target = Target::kF32});
    EXPECT_TRUE(tensors(dir.path() / "f32") == tensors(dir.path() / "same"));
    convert(awq.path(), dir.path() / "int4", {.target = Target::kInt4});
    EXPECT_THAT(findings(dir.path() / "int4"), IsEmpty());
  }
}

TEST(Awq, FaultsAreNamed) {
  const auto with = [](const Rewritten::Edit& edit) {
    const Rewritten model(kModels / "v2-lite-tiny", [&](auto& all, io::Json& config) {
      to_awq(64, false)(all, config);
      edit(all, config);
    });
    return refusal(model.path());
  };
  const std::string base = "model.layers.0.mlp.up_proj.";
  EXPECT_THAT(with([&](auto& all, io::Json&) { all.erase(base + "qzeros"); }),
              HasSubstr("up_proj.qzeros: is missing, " + base + "qweight is I32 and needs it"));
  EXPECT_THAT(
      with([&](auto&, io::Json& config) { config["quantization_config"]["group_size"] = 128; }),
      HasSubstr("is INT4 (AWQ, groups of 64), but quantization_config of config.json says INT4 (AWQ, groups of 128)"));
  EXPECT_THAT(with([&](auto&, io::Json& config) { config["quantization_config"]["version"] = "gemv"; }),
              HasSubstr("of AWQ's layouts gemm is supported"));
  EXPECT_THAT(with([&](auto&, io::Json& config) { config["quantization_config"]["bits"] = 8; }),
              HasSubstr("bits is 8; AWQ is supported with 4"));
}

class DamagedInt8 : public ::testing::Test {
 protected:
  void SetUp() override { convert(kModels / "v3-tiny", dir.path() / "q", {.target = Target::kInt4}); }
  std::string refused(const Rewritten::Edit& edit) const { return refusal(Rewritten(dir.path() / "q", edit).path()); }
  std::vector<std::string> found(const Rewritten::Edit& edit) const {
    return findings(Rewritten(dir.path() / "q", edit).path());
  }
  TemporaryDirectory dir;
  const std::string o_proj = "model.layers.0.self_attn.o_proj.weight";
};

Tensor one() {
  Tensor value(DType::kI32, {1});
  *value->data<std::int32_t>() = 1;
  return value;
}

TEST_F(DamagedInt8, PackedShapesAreChecked) {
  EXPECT_THAT(refused([&](auto& all, io::Json&) { all.at(o_proj + "_shape")->template data<std::int64_t>()[1] = 7; }),
              HasSubstr("o_proj.weight_shape: says ["));
  EXPECT_THAT(refused([&](auto& all, io::Json&) { all.erase(o_proj + "_scale"); }),
              HasSubstr("o_proj.weight_scale: is missing, " + o_proj + "_packed is I32 and needs it"));
  EXPECT_THAT(refused([&](auto& all, io::Json&) { all.at(o_proj + "_packed") = Tensor::zeros(DType::kI32, {3, 3}); }),
              HasSubstr("o_proj.weight_packed: has shape [3, 3]"));
  EXPECT_THAT(refused([&](auto& all, io::Json&) { all.at(o_proj + "_scale") = Tensor::zeros(DType::kBF16, {3, 3}); }),
              HasSubstr("o_proj.weight_scale: has shape [3, 3]"));
}

TEST_F(DamagedInt8, ShapesMayBeI32) {
  const Rewritten narrow(dir.path() / "q", [](auto& all, io::Json&) {
    for (auto& [name, value] : all) {
      if (!name.ends_with("_shape")) continue;
      Tensor shape(DType::kI32, {2});
      for (Index i = 0; i < 2; ++i)
        shape->data<std::int32_t>()[i] = static_cast<std::int32_t>(value->template data<std::int64_t>()[i]);
      value = std::move(shape);
    }
  });
  EXPECT_EQ(largest_difference(logits(narrow.path()), logits(dir.path() / "q")), 0);
}

TEST_F(DamagedInt8, AConfigThatContradictsTheTensorsIsRefused) {
  EXPECT_THAT(refused([&](auto&, io::Json& c) {
                c["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 128;
              }),
              HasSubstr("is INT4 (pack-quantized, groups of 32), but quantization_config of config.json says"));
  EXPECT_THAT(refused([&](auto&, io::Json& c) { c["quantization_config"] = {{"quant_method", "fp8"}}; }),
              HasSubstr("but quantization_config of config.json says FP8"));
  // Without a quantization_config the tensors speak for themselves.
  EXPECT_EQ(refused([&](auto&, io::Json& c) { c.erase("quantization_config"); }), "");
}

TEST_F(DamagedInt8, BadScalesAndHolesAreFound) {
  EXPECT_THAT(found([&](auto& all, io::Json&) { all.at(o_proj + "_scale")->template data<bf16>()[5].bits = 0x7FC0; }),
              Contains(HasSubstr("o_proj.weight_scale: 1 of")));
  EXPECT_THAT(found([&](auto& all, io::Json&) { all.at(o_proj + "_scale")->template data<bf16>()[5].bits = 0x8000; }),
              Contains(HasSubstr("o_proj.weight_scale: 1 scales are not positive")));
  EXPECT_THAT(found([&](auto& all, io::Json&) {
                Tensor& packed = all.at(o_proj + "_packed");
                packed = Tensor::zeros(DType::kI32, packed.shape());
              }),
              Contains(HasSubstr("all codes are zero, the data is missing")));
  EXPECT_THAT(found([&](auto& all, io::Json&) { all.emplace(o_proj + "_zero_point", one()); }),
              Contains(HasSubstr("o_proj.weight_zero_point: has no place in the config")));
}

TEST_F(DamagedInt8, Int8WithoutItsScaleIsRefused) {
  EXPECT_THAT(refused([&](auto& all, io::Json&) { all.erase("lm_head.weight_scale"); }),
              HasSubstr("lm_head.weight: has neither lm_head.weight_scale_inv nor lm_head.weight_scale"));
  EXPECT_THAT(
      refused([&](auto& all, io::Json&) { all.at("lm_head.weight_scale") = Tensor::zeros(DType::kF32, {3, 1}); }),
      HasSubstr("lm_head.weight_scale: has shape [3, 1]"));
  EXPECT_THAT(refused([&](auto& all, io::Json&) {
                all.at("model.embed_tokens.weight") =
                    Tensor::zeros(DType::kI8, all.at("model.embed_tokens.weight").shape());
              }),
              HasSubstr("model.embed_tokens.weight: dtype I8 is not supported here"));
}

// Files are hostile: whatever shapes and dtypes come, loading is refused in a sentence or the model runs.
TEST(Formats, TensorsOfAnyShapeAndDtypeAreRefusedOrRun) {
  const TemporaryDirectory dir;
  convert(kModels / "v2-lite-tiny", dir.path() / "int4", {.target = Target::kInt4});
  const Rewritten awq(kModels / "v2-lite-tiny", to_awq(32, false));
  constexpr DType kDtypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kI8,     DType::kI32,
                               DType::kI64, DType::kU8,   DType::kF64, DType::kF8E4M3, DType::kF8E8M0};
  const Philox random(5, 0);
  std::uint64_t at = 0;
  const auto pick = [&](Index n) { return static_cast<Index>(random.uniform(at++) * static_cast<double>(n)); };
  int refused = 0;
  constexpr int kRounds = 60;
  for (int i = 0; i < kRounds; ++i) {
    const Rewritten model(i % 2 ? awq.path() : dir.path() / "int4", [&](auto& all, io::Json&) {
      std::vector<std::string> names;
      for (const auto& [name, value] : all)
        if (name.starts_with("model.layers.0.") || name.starts_with("lm_head")) names.push_back(name);
      const std::string name = names[static_cast<std::size_t>(pick(static_cast<Index>(names.size())))];
      Shape shape;
      const Shape old = all.at(name).shape();
      for (Index d : old) shape.push_back(pick(3) ? d : pick(2 * d + 2));
      if (pick(8) == 0) shape.push_back(pick(3));
      if (pick(8) == 0) shape = Shape{};
      const DType dtype = pick(2) ? all.at(name).dtype() : kDtypes[pick(std::size(kDtypes))];
      if (pick(6) == 0)
        all.erase(name);
      else
        all.at(name) = Tensor::zeros(dtype, shape);
    });
    try {
      logits(model.path());
    } catch (const Error& e) {
      ++refused;
      EXPECT_THAT(e.what(), HasSubstr(": "));
    }
    EXPECT_NO_THROW(findings(model.path()));
  }
  EXPECT_GT(refused, kRounds / 3);
}

// Channel-INT8 as published: one scale a row under the name weight_scale.
TEST(Int8, ChannelCheckpointsRun) {
  const TemporaryDirectory dir;
  const auto channels = [](bool float_values) {
    return [=](std::map<std::string, Tensor>& all, io::Json& config) {
      for (auto& [name, value] : all) {
        if (!name.ends_with("_proj.weight") || name.ends_with("eh_proj.weight")) continue;
        const Tensor w = as_float(value);
        Tensor codes(DType::kI8, w.shape()), scale(DType::kBF16, {w.size(0), 1});
        for (Index r = 0; r < w.size(0); ++r) {
          const float* row = w->data<float>() + r * w.size(1);
          float amax = 1e-6f;
          for (Index c = 0; c < w.size(1); ++c) amax = std::max(amax, std::abs(row[c]));
          scale->data<bf16>()[r] = float_to_bf16(amax / 120);
          const float s = bf16_to_float(scale->data<bf16>()[r]);
          for (Index c = 0; c < w.size(1); ++c) {
            const float code = std::nearbyint(row[c] / s);
            codes->data<std::int8_t>()[r * w.size(1) + c] = static_cast<std::int8_t>(code);
            w->data<float>()[r * w.size(1) + c] = code * s;
          }
        }
        value = float_values ? Tensor::copy_of(w) : std::move(codes);
        if (!float_values) all.emplace(name + "_scale", std::move(scale));
      }
      if (!float_values) config["quantization_config"] = {{"quant_method", "w8a8_int8"}};
    };
  };
  const Rewritten int8(kModels / "v3-tiny", channels(false)), floats(kModels / "v3-tiny", channels(true));
  EXPECT_THAT(findings(int8.path()), IsEmpty());
  EXPECT_LE(largest_difference(logits(int8.path()), logits(floats.path())), kLogitTolerance);
}

// Linears of a BF16 model as codes and scales, or as the float32 numbers that these stand for.
using Quantise = std::function<void(Tensors& all, const std::string& name, const Tensor& w, bool float_values)>;

Rewritten::Edit each_linear(const Quantise& quantise, bool float_values, const io::Json& config_of_it) {
  return [=](Tensors& all, io::Json& config) {
    std::vector<std::string> names;
    for (const auto& [name, value] : all)
      if ((name.ends_with("_proj.weight") && !name.ends_with("eh_proj.weight")) || name.ends_with("_mqa.weight"))
        names.push_back(name);
    for (const std::string& name : names) {
      const Tensor w = as_float(all.at(name));
      all.erase(name);
      quantise(all, name, w, float_values);
    }
    if (!float_values) config["quantization_config"] = config_of_it;
  };
}

io::Json compressed(const char* format, const char* type, const char* strategy, const io::Json& group_size = nullptr) {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights",
               {{"num_bits", 8},
                {"type", type},
                {"symmetric", true},
                {"strategy", strategy},
                {"group_size", group_size}}}}}}}};
}

void expect_same(const char* model, const Quantise& quantise, const io::Json& config) {
  const Rewritten stored(kModels / model, each_linear(quantise, false, config)),
      floats(kModels / model, each_linear(quantise, true, config));
  EXPECT_THAT(findings(stored.path()), IsEmpty());
  expect_same_logits(stored.path(), floats.path());
  EXPECT_GT(largest_difference(logits(stored.path()), logits(kModels / model)), 1e-4) << "nothing was quantised";
  const TemporaryDirectory dir;
  convert(stored.path(), dir.path() / "a", {.target = Target::kF32});
  convert(floats.path(), dir.path() / "b", {.target = Target::kF32});
  EXPECT_TRUE(tensors(dir.path() / "a") == tensors(dir.path() / "b"));
}

// A scale per row: [N, 1], [N], or one for all rows, [1] or [].
TEST(Fp8, ScalesPerRowAndPerTensorRun) {
  for (const int kind : {0, 1, 2, 3}) {
    const Quantise quantise = [kind](Tensors& all, const std::string& name, const Tensor& w, bool float_values) {
      const Index rows = w.size(0), columns = w.size(1);
      Tensor codes(DType::kF8E4M3, w.shape()), values(DType::kF32, w.shape());
      Tensor scale(DType::kBF16, kind == 0 ? Shape{rows, 1} : kind == 1 ? Shape{rows} : kind == 2 ? Shape{1} : Shape{});
      for (Index r = 0; r < rows; ++r) {
        const float s = kind < 2 ? 0.001f * static_cast<float>(r % 5 + 1) : 0.002f;
        bf16& stored = scale->data<bf16>()[kind < 2 ? r : 0];
        stored = float_to_bf16(s);
        for (Index c = 0; c < columns; ++c) {
          const e4m3 code = float_to_e4m3(w->data<float>()[r * columns + c] / bf16_to_float(stored));
          codes->data<e4m3>()[r * columns + c] = code;
          values->data<float>()[r * columns + c] = e4m3_to_float(code) * bf16_to_float(stored);
        }
      }
      if (float_values) return void(all.emplace(name, std::move(values)));
      all.emplace(name, std::move(codes));
      all.emplace(name + "_scale", std::move(scale));
    };
    expect_same(kind % 2 ? "v3-tiny" : "moonlight-tiny", quantise,
                compressed("float-quantized", "float", kind < 2 ? "channel" : "tensor"));
  }
}

// Codes plus half their range, the first in the low bits; columns that make no whole word are filled up.
TEST(Packed, ChannelsAndGroupsOfEightAndFourBitsRun) {
  for (const auto& [bits, group] : {std::pair<int, Index>{8, 0}, {8, 32}, {8, 128}, {4, 0}}) {
    const Quantise quantise = [bits, group](Tensors& all, const std::string& name, const Tensor& w, bool float_values) {
      const Index rows = w.size(0), columns = w.size(1), per_word = 32 / bits,
                  words = (columns + per_word - 1) / per_word;
      const float half = bits == 8 ? 128.0f : 8.0f;
      const Index size = group ? group : columns, groups = (columns + size - 1) / size;
      Tensor packed(DType::kI32, {rows, words}), scale(DType::kBF16, {rows, groups}), values(DType::kF32, w.shape());
      std::memset(packed->raw(), 0, static_cast<std::size_t>(packed->num_bytes()));
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c) {
          bf16& stored = scale->data<bf16>()[r * groups + c / size];
          stored = float_to_bf16(0.0005f * static_cast<float>((r + c / size) % 3 + 2) * (bits == 8 ? 1.0f : 16.0f));
          const float s = bf16_to_float(stored);
          const float code = std::clamp(std::nearbyint(w->data<float>()[r * columns + c] / s), -half, half - 1) +
                             0.0f;  // integers have no negative zero
          auto& word = reinterpret_cast<std::uint32_t&>(packed->data<std::int32_t>()[r * words + c / per_word]);
          word |= static_cast<std::uint32_t>(code + half) << (bits * (c % per_word));
          values->data<float>()[r * columns + c] = code * s;
        }
      if (float_values) return void(all.emplace(name, std::move(values)));
      Tensor shape(DType::kI64, {2});
      shape->data<std::int64_t>()[0] = rows, shape->data<std::int64_t>()[1] = columns;
      all.emplace(name + "_packed", std::move(packed));
      all.emplace(name + "_scale", std::move(scale));
      all.emplace(name + "_shape", std::move(shape));
    };
    io::Json config =
        compressed("pack-quantized", "int", group ? "group" : "channel", group ? io::Json(group) : io::Json());
    config["config_groups"]["group_0"]["weights"]["num_bits"] = bits;
    expect_same("v3-tiny", quantise, config);
  }
}

TEST(Fp8, BlocksUnderTheNameOfCompressedTensorsAreTheSame) {
  const Rewritten renamed(kModels / "v3-tiny-fp8", [](Tensors& all, io::Json& config) {
    Tensors other;
    for (auto& [name, value] : all)
      other.emplace(name.ends_with("_scale_inv") ? name.substr(0, name.size() - 4) : name, std::move(value));
    all = std::move(other);
    io::Json q = compressed("float-quantized", "float", "block");
    q["config_groups"]["group_0"]["weights"]["block_structure"] = {128, 128};
    config["quantization_config"] = q;
  });
  EXPECT_THAT(findings(renamed.path()), IsEmpty());
  EXPECT_EQ(logits(renamed.path()), logits(kModels / "v3-tiny-fp8"));
}

// 96 columns make no group of 64 or 128, 48 none at all: other readers of pack-quantized know full groups only.
TEST(Int4, EveryGroupIsFull) {
  const TemporaryDirectory dir;
  Context ctx(2);
  io::Json config = io::read_json_file(kMini / "config.json");
  config["moe_intermediate_size"] = 48;
  std::ofstream(dir.path() / "config.json") << config;
  init_model(ctx, dir.path() / "config.json", dir.path() / "q",
             {.seed = 1, .storage = {.target = Target::kInt4, .group_size = 128}}, {});
  const io::CheckpointFiles files(dir.path() / "q");
  const auto groups = [&](const std::string& name) {
    return files.info("model.layers.1." + name + ".weight_scale")->shape[1];
  };
  EXPECT_EQ(groups("mlp.experts.3.gate_proj"), 192 / 64);
  EXPECT_EQ(groups("self_attn.q_b_proj"), 96 / 32);
  EXPECT_EQ(files.info("model.layers.1.mlp.experts.3.down_proj.weight")->dtype, DType::kI8);
  EXPECT_THAT(findings(dir.path() / "q"), IsEmpty());
  const io::Json q = io::read_json_file(dir.path() / "q/config.json")["quantization_config"];
  EXPECT_EQ(q["format"], "mixed-precision");
  for (const auto& [name, group] : q["config_groups"].items())
    for (const io::Json& target : group["targets"]) EXPECT_TRUE(target.is_string()) << name;
  EXPECT_THAT(q["config_groups"]["group_1"]["targets"].dump(),
              HasSubstr(R"(re:.*layers\\.(1|2|3)\\.mlp\\.experts\\.\\d+\\.down_proj$)"));
  EXPECT_EQ(q["config_groups"]["group_2"]["weights"]["group_size"], 32);
  EXPECT_EQ(q["config_groups"]["group_3"]["weights"]["group_size"], 64);
  // Groups that fit are as they were asked for.
  convert(kMini, dir.path() / "plain", {.target = Target::kInt4});
  const io::Json plain = io::read_json_file(dir.path() / "plain/config.json")["quantization_config"];
  EXPECT_EQ(plain["config_groups"].size(), 2u);
}

}  // namespace
}  // namespace formats_test
}  // namespace hadal::checkpoint
