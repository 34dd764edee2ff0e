// The same numbers under other names: read with the same logits, converted to the published names.
#include <gmock/gmock.h>

#include "tests/support/checkpoints.h"

namespace hadal::checkpoint {
namespace names_test {
namespace {

using test::findings;
using test::logits;
using test::refusal;
using test::Rewritten;
using test::TemporaryDirectory;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Tensors = std::map<std::string, Tensor>;

const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";

// Matrices of the same shape one above the other, [N * rows, C], or with `shape`.
Tensor stacked(Tensors& all, const std::vector<std::string>& names, Shape shape) {
  const DType dtype = all.at(names[0]).dtype();
  Tensor out(dtype, shape);
  auto* to = static_cast<std::byte*>(out->raw());
  for (const std::string& name : names) {
    const Tensor part = std::move(all.at(name));
    all.erase(name);
    std::memcpy(to, part->raw(), static_cast<std::size_t>(part->num_bytes()));
    to += part->num_bytes();
  }
  return out;
}

// transformers 5 with save_original_format=False; `tail` of the tensors of each matrix, `dot_weight`: as others spell
// it.
void fuse_experts(Tensors& all, Index layers, Index experts, const std::string& tail, bool dot_weight) {
  for (Index layer = 1; layer < layers; ++layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".mlp.experts.";
    std::vector<std::string> pairs, downs;
    for (Index e = 0; e < experts; ++e) {
      const std::string expert = module + std::to_string(e);
      pairs.push_back(expert + ".gate_proj.weight" + tail);
      pairs.push_back(expert + ".up_proj.weight" + tail);
      downs.push_back(expert + ".down_proj.weight" + tail);
    }
    const Shape pair = all.at(pairs[0]).shape(), down = all.at(downs[0]).shape();
    const std::string suffix = (dot_weight ? ".weight" : "") + tail;
    Tensor gate_up = stacked(all, pairs, {experts, 2 * pair[0], pair[1]});
    all.emplace(module + "gate_up_proj" + suffix, std::move(gate_up));
    Tensor all_down = stacked(all, downs, {experts, down[0], down[1]});
    all.emplace(module + "down_proj" + suffix, std::move(all_down));
  }
}

TEST(Names, FusedExpertsAreRead) {
  for (const bool dot_weight : {false, true}) {
    const Rewritten fused(kModels / "v3-tiny", [&](auto& all, io::Json&) { fuse_experts(all, 4, 16, "", dot_weight); });
    EXPECT_THAT(findings(fused.path()), IsEmpty());
    EXPECT_EQ(logits(fused.path()), logits(kModels / "v3-tiny"));
  }
}

TEST(Names, FusedExpertsAreStreamedAndConverted) {
  const Rewritten fused(kModels / "moonlight-tiny", [](auto& all, io::Json&) { fuse_experts(all, 3, 8, "", false); });
  const TemporaryDirectory dir;
  test::convert(fused.path(), dir.path() / "a", {.target = Target::kF32});
  test::convert(kModels / "moonlight-tiny", dir.path() / "b", {.target = Target::kF32});
  EXPECT_TRUE(test::tensors(dir.path() / "a") == test::tensors(dir.path() / "b"));
}

// Per-row scales of FP8 are cut with the rows; blocks of 128 rows lie across gate and up (96 rows each here).
TEST(Names, ScalesOfFusedExpertsAreCutOrRefused) {
  const auto with_row_scales = [](Tensors& all, io::Json& config) {
    for (auto& [name, value] : std::map<std::string, Shape>{}) (void)name, (void)value;
    std::vector<std::string> names;
    for (const auto& [name, value] : all)
      if (name.find(".mlp.experts.") != name.npos && name.ends_with(".weight")) names.push_back(name);
    for (const std::string& name : names) {
      const Index rows = all.at(name).size(0);
      Tensor scale(DType::kF32, {rows, 1});
      for (Index r = 0; r < rows; ++r) scale->data<float>()[r] = 0.01f * static_cast<float>(r % 7 + 1);
      all.erase(name + "_scale_inv");
      all.emplace(name + "_scale", std::move(scale));
    }
    config.erase("quantization_config");
  };
  const Rewritten apart(kModels / "v3-tiny-fp8", with_row_scales);
  const Rewritten fused(kModels / "v3-tiny-fp8", [&](auto& all, io::Json& config) {
    with_row_scales(all, config);
    fuse_experts(all, 4, 16, "_scale", false);
    fuse_experts(all, 4, 16, "", false);
  });
  EXPECT_EQ(refusal(fused.path()), "");
  EXPECT_EQ(logits(fused.path()), logits(apart.path()));
  const Rewritten blocks(kModels / "v3-tiny-fp8", [](auto& all, io::Json&) {
    fuse_experts(all, 4, 16, "_scale_inv", false);
    fuse_experts(all, 4, 16, "", false);
    for (auto& [name, value] : all)
      if (name.ends_with("gate_up_proj_scale_inv")) value = Tensor::zeros(DType::kF32, {16, 2, 2});
  });
  EXPECT_THAT(refusal(blocks.path()),
              HasSubstr("its blocks of 128 rows lie across gate and up, which have 96 rows each"));
}

TEST(Names, DenseGateAndUpMayBeOneMatrix) {
  const Rewritten fused(kModels / "v2-tiny", [](auto& all, io::Json&) {
    for (const std::string module : {"model.layers.0.mlp.", "model.layers.1.mlp.shared_experts."}) {
      const Shape half = all.at(module + "gate_proj.weight").shape();
      Tensor both = stacked(all, {module + "gate_proj.weight", module + "up_proj.weight"}, {2 * half[0], half[1]});
      all.emplace(module + "gate_up_proj.weight", std::move(both));
    }
  });
  EXPECT_EQ(logits(fused.path()), logits(kModels / "v2-tiny"));
}

TEST(Names, StacksOfWrongShapesAreRefused) {
  const auto with = [](Shape shape) {
    return refusal(Rewritten(kModels / "moonlight-tiny", [&](auto& all, io::Json&) {
                     fuse_experts(all, 3, 8, "", false);
                     all.at("model.layers.1.mlp.experts.gate_up_proj") = Tensor::zeros(DType::kBF16, shape);
                   }).path());
  };
  EXPECT_THAT(with({7, 192, 128}), HasSubstr("experts.gate_up_proj: has shape [7, 192, 128], a matrix for each of 8"));
  EXPECT_THAT(with({8, 192}), HasSubstr("has shape [8, 192]"));
  EXPECT_THAT(with({8, 191, 128}), HasSubstr("has shape [8, 191, 128]"));
  EXPECT_THAT(with({8, 128, 192}), HasSubstr("experts.0.gate_proj.weight: has shape [64, 192]"));
}

TEST(Names, AStackBesideSingleExpertsIsRefused) {
  const Rewritten both(kModels / "moonlight-tiny", [](auto& all, io::Json&) {
    all.emplace("model.layers.1.mlp.experts.down_proj", Tensor::zeros(DType::kBF16, {8, 128, 96}));
  });
  EXPECT_THAT(refusal(both.path()), HasSubstr("has both model.layers.1.mlp.experts.down_proj and"));
}

TEST(Names, OtherPrefixesAreRead) {
  for (const auto& [prefix, outer] : {std::pair<std::string, std::string>{"", ""},
                                      {"module.model.", "module."},
                                      {"language_model.model.", "language_model."},
                                      {"model.language_model.", ""}}) {
    const Rewritten model(kModels / "v2-tiny", [&](auto& all, io::Json&) {
      Tensors renamed;
      for (auto& [name, value] : all)
        renamed.emplace(name.starts_with("model.") ? prefix + name.substr(6) : outer + name, std::move(value));
      all = std::move(renamed);
    });
    EXPECT_EQ(refusal(model.path()), "") << prefix;
    EXPECT_THAT(findings(model.path()), IsEmpty()) << prefix;
  }
}

// A base class has no head: that is one sentence, not one a tensor.
TEST(Names, ABaseClassLacksItsHeadAlone) {
  const Rewritten base(kModels / "v2-tiny", [](auto& all, io::Json&) {
    Tensors renamed;
    for (auto& [name, value] : all)
      if (name.starts_with("model.")) renamed.emplace(name.substr(6), std::move(value));
    all = std::move(renamed);
  });
  const std::string text = refusal(base.path());
  EXPECT_THAT(text, ::testing::EndsWith("lm_head.weight: is missing"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0);
}

TEST(Names, FilesOfAnotherKindAreOneSentence) {
  const Rewritten other(kModels / "v2-tiny", [](auto& all, io::Json&) {
    Tensors renamed;
    for (auto& [name, value] : all) renamed.emplace("blk." + std::to_string(renamed.size()), std::move(value));
    all = std::move(renamed);
  });
  const std::string text = refusal(other.path());
  EXPECT_THAT(text, HasSubstr("tensors that config.json asks for are missing"));
  EXPECT_THAT(text, HasSubstr("the first is blk.0"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0);
}

TEST(Names, AGapAmongTheExpertsIsNamed) {
  const Rewritten gap(kModels / "v2-tiny", [](auto& all, io::Json&) {
    for (const char* part : {"gate_proj", "up_proj", "down_proj"})
      all.erase("model.layers.1.mlp.experts.5." + std::string(part) + ".weight");
  });
  EXPECT_THAT(refusal(gap.path()), HasSubstr("model.layers.1.mlp.experts.5.up_proj.weight: is missing"));
}

}  // namespace
}  // namespace names_test
}  // namespace hadal::checkpoint
