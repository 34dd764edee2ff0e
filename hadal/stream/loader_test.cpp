#include "hadal/stream/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

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

// Every parameter of `t` as float32, by name.
std::map<std::string, Tensor> values(Transformer& t) {
  Context ctx(1);
  std::map<std::string, Tensor> all;
  t.for_each_param([&](const std::string& name, weights::Weight& w, const weights::ParamInfo& info) {
    EXPECT_EQ(w.num_rows(), info.shape[0]) << name;
    if (!weights::is_matrix(info.role)) {
      all.emplace(name, Tensor::copy_of(w.values));
      return;
    }
    // Through a product with the identity: whatever the format, and with the scales that belong to the rows.
    const Index columns = w.num_columns();
    const Tensor one = Tensor::zeros(DType::kF32, {columns, columns});
    for (Index i = 0; i < columns; ++i) one->view<float, 2>()(i, i) = 1;
    const Workspace::Scope scope(ctx.workspace);
    all.emplace(name, Tensor::copy_of(ops::linear_unrounded(ctx, one, w)));
  });
  return all;
}

bool same(const ConstTensorRef& a, const ConstTensorRef& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())) == 0;
}

class Parts : public ::testing::TestWithParam<const char*> {};

TEST_P(Parts, ShardsSideBySideAreTheModel) {
  LoadedModel all = load_model(kModels / GetParam(), {.mtp = true});
  const auto expected = values(all.transformer);
  std::vector<std::map<std::string, Tensor>> shards;
  for (Index s = 0; s < 2; ++s) {
    model::Part part = model::whole(all.transformer.config);
    part.shard = s;
    part.shards = 2;
    LoadedModel model = load_model(kModels / GetParam(), {.part = part, .mtp = true});
    shards.push_back(values(model.transformer));
  }
  Index split = 0;
  for (const auto& [name, value] : expected) {
    const ConstTensorRef first = shards[0].at(name), second = shards[1].at(name);
    if (first.shape() == value.shape()) {
      EXPECT_TRUE(same(first, value) && same(second, value)) << name;
      continue;
    }
    ++split;
    // A product's columns are the weight's rows.
    const Index half = value->size(1) / 2;
    EXPECT_TRUE(same(first, Tensor::copy_of(value->columns(0, half)))) << name;
    EXPECT_TRUE(same(second, Tensor::copy_of(value->columns(half, 2 * half)))) << name;
  }
  EXPECT_GT(split, 10);
}

TEST_P(Parts, RangesOfLayersAndExpertsAreTheModelsOwn) {
  LoadedModel all = load_model(kModels / GetParam(), {.mtp = true});
  const config::Config& c = all.transformer.config;
  const auto expected = values(all.transformer);
  std::set<std::string> seen;
  for (const model::Range layers : {model::Range{0, 1}, model::Range{1, c.num_stored_layers()}})
    for (const model::Range experts : {model::Range{0, 3}, model::Range{3, c.n_routed_experts}}) {
      LoadedModel model = load_model(kModels / GetParam(), {.part = model::Part{.layers = layers, .experts = experts},
                                                            .mtp = true});
      for (const auto& [name, value] : values(model.transformer)) {
        EXPECT_TRUE(same(value, expected.at(name))) << name;
        seen.insert(name);
      }
    }
  EXPECT_EQ(seen.size(), expected.size());
}

INSTANTIATE_TEST_SUITE_P(Models, Parts, ::testing::Values("v3-tiny", "v3-tiny-fp8", "v2-lite-tiny"),
                         [](const auto& p) {
                           std::string name = p.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Part, WhatDoesNotFitIsASentence) {
  const config::Config c = config::load_config(kModels / "v3-tiny");
  model::Part part = model::whole(c);
  part.shards = 7;
  EXPECT_THAT([&] { Transformer(c, part); }, ::testing::ThrowsMessage<Error>(HasSubstr("cannot be split into 7")));
  part = model::whole(c);
  part.layers = {1, 99};
  EXPECT_THAT([&] { Transformer(c, part); }, ::testing::ThrowsMessage<Error>(HasSubstr("layers [1, 99)")));
}

TEST(Part, APartAloneRunsNoPass) {
  const config::Config c = config::load_config(kModels / "v3-tiny");
  model::Part part = model::whole(c);
  part.layers = {0, 1};
  LoadedModel model = load_model(kModels / "v3-tiny", {.part = part});
  Context ctx(1);
  model::SequenceState state = model.transformer.new_sequence(4);
  const config::TokenId id = 1;
  EXPECT_THAT([&] { model.transformer.hidden(ctx, std::span(&id, 1), model::Form::kExpanded, state); },
              ::testing::ThrowsMessage<Error>(HasSubstr("layers [0, 1)")));
}

}  // namespace
}  // namespace hadal::stream
