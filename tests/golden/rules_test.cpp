// Rules of a correct engine that only numbers of an independent implementation can tell apart: each is checked, then
// broken on purpose, and the numbers must notice.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "hadal/io/safetensors.h"
#include "hadal/stream/loader.h"

namespace hadal::model {

using stream::LoadedModel;
using stream::load_model;
namespace rules_test {
namespace {

struct Fixture {
  explicit Fixture(const std::string& name)
      : directory(HADAL_TEST_DATA "/golden/models/" + name),
        model(load_model(directory, {.mtp = true})),
        golden(directory + "/golden.safetensors") {
    const ConstTensorRef t = tensor("ids");
    ids.assign(t.data<std::int32_t>(), t.data<std::int32_t>() + t.num_elements());
  }
  ConstTensorRef tensor(const std::string& name) const { return golden.tensor(*golden.find("short." + name)); }
  Transformer& transformer() { return model.transformer; }

  std::string directory;
  LoadedModel model;
  io::SafetensorsFile golden;
  std::vector<TokenId> ids;
  Context ctx{2};
};

double largest_difference(const ConstTensorRef& a, const ConstTensorRef& b) {
  const Tensor x = Tensor::copy_of(a), y = Tensor::copy_of(b);
  if (x->num_elements() != y->num_elements()) return HUGE_VAL;
  double worst = 0;
  for (Index i = 0; i < x->num_elements(); ++i)
    worst = std::max(worst, std::abs(double{x->data<float>()[i]} - y->data<float>()[i]));
  return worst;
}

TEST(KvCache, Rule17_HoldsTheNormalisedLatentAndTheRotatedPart) {
  Fixture f("v3-tiny");
  const Config& c = f.transformer().config;
  SequenceState state = f.transformer().new_sequence(64);
  f.transformer().hidden(f.ctx, f.ids, Form::kExpanded, state);
  for (Index layer = 0; layer < c.num_hidden_layers; ++layer) {
    const ConstTensorRef entries = ops::read_entries(f.ctx, state.main.entries(layer, 0), 0, state.main.length());
    const std::string name = "layer" + std::to_string(layer);
    EXPECT_LE(largest_difference(entries.columns(0, c.kv_lora_rank), f.tensor(name + ".latent")), 2e-5) << name;
    EXPECT_LE(largest_difference(entries.columns(c.kv_lora_rank, entries.size(1)), f.tensor(name + ".k_rope")), 2e-5);
  }
}

TEST(Mla, Rule19a_LatentNormsUse1e6WhateverTheConfigSays) {
  Fixture f("moonlight-tiny");
  ASSERT_EQ(f.transformer().config.rms_norm_eps, 1e-5);
  const auto latent_error = [&] {
    SequenceState state = f.transformer().new_sequence(64);
    f.transformer().hidden(f.ctx, f.ids, Form::kExpanded, state);
    const ConstTensorRef entries = ops::read_entries(f.ctx, state.main.entries(0, 0), 0, state.main.length());
    return largest_difference(entries.columns(0, f.transformer().config.kv_lora_rank), f.tensor("layer0.latent"));
  };
  const double right = latent_error();
  EXPECT_LE(right, 2e-6);
  for (Block& block : f.transformer().layers) block.self_attn.kv_a_layernorm.eps = 1e-5;
  EXPECT_GT(latent_error(), 4 * right);
}

double mtp_error(Fixture& f) {
  SequenceState state = f.transformer().new_sequence(64);
  const auto rows = static_cast<Index>(f.ids.size()) - 1;
  const TensorRef hidden = f.transformer().hidden(f.ctx, f.ids, Form::kExpanded, state).rows(0, rows);
  const TensorRef h = f.transformer().mtp_hidden(f.ctx, 0, std::span(f.ids).subspan(1), hidden, Form::kExpanded, state);
  return largest_difference(f.transformer().mtp_logits(f.ctx, 0, h), f.tensor("mtp0.logits"));
}

TEST(Mtp, Rule38_EmbeddingFirstThenTheHiddenStateAfterTheFinalNorm) {
  Fixture f("v3-tiny");
  EXPECT_LE(mtp_error(f), 2e-4);
  std::swap(f.transformer().mtp[0].enorm, f.transformer().mtp[0].hnorm);
  EXPECT_GT(mtp_error(f), 2e-3) << "the order of the two halves went unnoticed";
  std::swap(f.transformer().mtp[0].enorm, f.transformer().mtp[0].hnorm);
  // The state before the final norm differs by that norm's gain.
  const Tensor ones = Tensor::copy_of(f.transformer().norm.weight.values);
  std::fill_n(ones->data<float>(), ones->num_elements(), 1.0f);
  f.transformer().norm.weight.values = ones;
  EXPECT_GT(mtp_error(f), 2e-3) << "the final norm's gain went unnoticed";
}

TEST(Mla, Rule37_KAndVPartsOfKvBKeepTheirOwnScaleRows) {
  // Heads of this FP8 model do not fall on blocks of 128 rows, and the two forms cut kv_b_proj differently.
  Fixture f("v3-tiny-fp8");
  const auto logits = [&](Form form) {
    SequenceState state = f.transformer().new_sequence(64);
    Tensor out(DType::kF32, {static_cast<Index>(f.ids.size()), f.transformer().config.vocab_size});
    for (std::size_t i = 0; i < f.ids.size(); ++i) {
      const Workspace::Scope scope(f.ctx.workspace);
      const TensorRef h = f.transformer().hidden(f.ctx, std::span(&f.ids[i], 1), form, state);
      const TensorRef row = f.transformer().logits(f.ctx, h);
      std::copy_n(row.data<float>(), row.num_elements(), out->data<float>() + static_cast<Index>(i) * row.size(1));
    }
    return out;
  };
  EXPECT_LE(largest_difference(logits(Form::kAbsorbed), f.tensor("logits")), 2e-4);
  EXPECT_LE(largest_difference(logits(Form::kExpanded), f.tensor("logits")), 2e-4);
}

}  // namespace
}  // namespace rules_test
}  // namespace hadal::model
