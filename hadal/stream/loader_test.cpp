#include "hadal/stream/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_directory.h"

namespace hadal::stream {

using model::Block;
using model::Transformer;
namespace {

using ::testing::HasSubstr;
using Entry = io::SafetensorsWriter::Entry;

const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";

// A copy of a golden model in one file, its tensors passed through `edit` (false: left out), and one more tensor.
class Copy {
 public:
  using Edit = std::function<bool(const std::string& name, Tensor& value)>;

  Copy(const std::string& model, const Edit& edit, const std::string& extra = "") {
    const io::CheckpointFiles files(kModels / model);
    std::vector<Entry> entries;
    std::vector<Tensor> values;
    for (const std::string& name : files.names()) {
      Tensor value = Tensor::copy_of(files.find(name));
      if (!edit(name, value)) continue;
      entries.push_back({name, value->dtype(), value->shape()});
      values.push_back(std::move(value));
    }
    if (!extra.empty()) {
      entries.push_back({extra, DType::kF32, {4}});
      values.push_back(Tensor::zeros(DType::kF32, {4}));
    }
    std::filesystem::copy_file(kModels / model / "config.json", path() / "config.json");
    io::SafetensorsWriter writer(path() / "model.safetensors", entries);
    for (const Tensor& value : values) writer.write(value);
    writer.finish();
  }
  const std::filesystem::path& path() const { return dir_.path(); }

 private:
  test::TemporaryDirectory dir_;
};

std::string refusal(const std::filesystem::path& directory) {
  try {
    load_model(directory, {.mtp = true});
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

bool keep(const std::string&, Tensor&) {
  return true;
}

TEST(Loader, Rule39_EqualCopiesInTheMtpLayerAreShared) {
  const LoadedModel model = load_model(kModels / "v3-tiny", {.mtp = true});
  const Transformer& t = model.transformer;
  ASSERT_TRUE(model.files->contains("model.layers.3.embed_tokens.weight"));
  EXPECT_EQ(t.mtp[0].embed_tokens.values.raw(), t.embed_tokens.values.raw());
  EXPECT_EQ(t.mtp[0].shared_head.head.weight.values.raw(), t.lm_head.weight.values.raw());
}

TEST(Loader, Rule39_CopiesThatDifferAreUsedAsTheyAre) {
  const Copy copy("v3-tiny", [](const std::string& name, Tensor& value) {
    if (name == "model.layers.3.embed_tokens.weight") value->data<bf16>()[0].bits ^= 1;
    return true;
  });
  const LoadedModel model = load_model(copy.path(), {.mtp = true});
  EXPECT_NE(model.transformer.mtp[0].embed_tokens.values.raw(), model.transformer.embed_tokens.values.raw());
}

TEST(Loader, Rule39_CopiesMayBeLeftOut) {
  const Copy copy("v3-tiny", [](const std::string& name, Tensor&) {
    return !name.ends_with("layers.3.embed_tokens.weight") && !name.ends_with("shared_head.head.weight");
  });
  const LoadedModel model = load_model(copy.path(), {.mtp = true});
  EXPECT_EQ(model.transformer.mtp[0].embed_tokens.values.raw(), model.transformer.embed_tokens.values.raw());
}

TEST(Loader, StrayRotaryFrequenciesAreIgnored) {
  const Copy copy("v2-tiny", keep, "model.layers.0.self_attn.rotary_emb.inv_freq");
  EXPECT_EQ(refusal(copy.path()), "");
}

TEST(Loader, Rule36_ScalesDecideWhatIsQuantised) {
  const Copy without("v3-tiny-fp8", [](const std::string& name, Tensor&) {
    return name != "model.layers.0.self_attn.o_proj.weight_scale_inv";
  });
  EXPECT_THAT(refusal(without.path()),
              HasSubstr("o_proj.weight_scale_inv: is missing, model.layers.0.self_attn.o_proj.weight is F8_E4M3"));
  const Copy stray("v3-tiny", keep, "model.layers.0.self_attn.o_proj.weight_scale_inv");
  EXPECT_THAT(refusal(stray.path()), HasSubstr("there is a scale, but"));
}

TEST(Loader, MissingTensorsAreNamed) {
  const Copy copy("v2-tiny", [](const std::string& name, Tensor&) { return name != "model.norm.weight"; });
  EXPECT_THAT(refusal(copy.path()), HasSubstr("model.norm.weight: is missing"));
}

TEST(Loader, Rule25_TheRoutingBiasIsF32HoweverItIsStored) {
  const LoadedModel model = load_model(kModels / "v3-tiny");
  for (const Block& block : model.transformer.layers)
    if (block.moe) {
      EXPECT_EQ(block.moe->gate.e_score_correction_bias.values.dtype(), DType::kF32);
    }
}

}  // namespace
}  // namespace hadal::stream
