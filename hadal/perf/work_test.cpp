#include "hadal/perf/work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hadal/core/dtype.h"
#include "hadal/stream/loader.h"
#include "hadal/ops/weight.h"

namespace hadal::perf {
namespace {

const std::string kShapes = HADAL_TEST_DATA "/shapes/";
const std::string kModels = HADAL_TEST_DATA "/golden/models/";

// As `hadal convert --to fp8` stores it: linears in E4M3 with a float a block, other matrices in BF16, vectors in F32.
double fp8_bytes(const weights::ParamInfo& info) {
  const auto n = static_cast<double>(info.shape.num_elements());
  if (!is_matrix(info.role)) return 4 * n;
  if (info.role != weights::ParamRole::kLinear) return 2 * n;
  return n + 4 * static_cast<double>(ops::num_blocks(info.shape[0]) * ops::num_blocks(info.shape[1]));
}

ModelWork fp8_work(model::Transformer& t) {
  return ModelWork(t, [](const std::string&, const weights::Weight&, const weights::ParamInfo& i) { return fp8_bytes(i); });
}

// `count` experts of every layer.
TouchedExperts touched(const config::Config& c, Index count) {
  TouchedExperts experts(c);
  for (Index layer = 0; layer < c.num_hidden_layers; ++layer)
    for (Index e = 0; c.is_moe_layer(layer) && e < count; ++e) experts.add(layer, e);
  return experts;
}

PassWork step(const ModelWork& work, const TouchedExperts& experts, const std::vector<Index>& visible) {
  return work.decode_step(visible, experts, 4);
}

TEST(Work, MoonlightReadsAboutTwoGigabytesAToken) {
  model::Transformer t(config::load_config(kShapes + "moonlight-16e.json"));
  const ModelWork work = fp8_work(t);
  const PassWork one = step(work, touched(t.config, 6), {1});
  // 2048 x (3072 + 576 + 2048) + 512 x 4096 in attention, 27 times.
  constexpr double kAttention = 27.0 * (2048 * (3072 + 576 + 2048) + 512 * 4096);
  constexpr double kExpert = 3.0 * 2048 * 1408;
  constexpr double kHead = 32768.0 * 2048;
  constexpr double kRouter = 26.0 * 16 * 2048;
  constexpr double kDense = 3.0 * 2048 * 11264;
  const double linears = kAttention + 26 * 8 * kExpert + kDense;
  EXPECT_DOUBLE_EQ(one.linears().flops, 2 * (linears + kHead + kRouter));
  EXPECT_DOUBLE_EQ(one[Phase::kExperts].flops, 2 * 26 * (6 + 2) * kExpert);
  EXPECT_DOUBLE_EQ(one[Phase::kProjections].flops, 2 * kAttention);
  EXPECT_NEAR(one.linears().bytes, linears + 2 * (kHead + kRouter), 0.001 * one.linears().bytes);
  EXPECT_NEAR(one.linears().bytes * 1e-9, 2.38, 0.01);
}

TEST(Work, MoonlightAttendsWithFourGigaflopsAtDepth4096) {
  model::Transformer t(config::load_config(kShapes + "moonlight-16e.json"));
  const PassWork one = step(fp8_work(t), touched(t.config, 6), {4096});
  EXPECT_DOUBLE_EQ(one[Phase::kAttention].flops, 2.0 * 27 * 16 * 4096 * (576 + 512));
  EXPECT_NEAR(one[Phase::kAttention].flops * 1e-9, 3.85, 0.01);
  EXPECT_DOUBLE_EQ(one[Phase::kAttention].bytes, 27.0 * 4096 * 576 * 4);
}

TEST(Work, ABatchReadsTheUnionOfItsExpertsOnce) {
  model::Transformer t(config::load_config(kShapes + "moonlight-16e.json"));
  const ModelWork work = fp8_work(t);
  const PassWork one = step(work, touched(t.config, 6), {1});
  const PassWork four = step(work, touched(t.config, 9), {1, 1, 1, 1});
  EXPECT_DOUBLE_EQ(four.linears().flops, 4 * one.linears().flops);
  EXPECT_DOUBLE_EQ(four[Phase::kExperts].bytes, one[Phase::kExperts].bytes * (9 + 2) / (6 + 2));
  EXPECT_DOUBLE_EQ(four[Phase::kProjections].bytes, one[Phase::kProjections].bytes);
  EXPECT_DOUBLE_EQ(four[Phase::kHead].bytes, one[Phase::kHead].bytes);
  EXPECT_DOUBLE_EQ(four[Phase::kEmbedding].bytes, 4 * 2048 * 2);
  EXPECT_DOUBLE_EQ(four[Phase::kAttention].flops, 4 * one[Phase::kAttention].flops);
}

TEST(Work, APromptAttendsCausallyAndRunsTheHeadOnce) {
  model::Transformer t(config::load_config(kShapes + "moonlight-16e.json"));
  const ModelWork work = fp8_work(t);
  const PassWork one = step(work, touched(t.config, 6), {1});
  const PassWork prompt = work.prompt(512, touched(t.config, 16));
  const double head = 2.0 * 32768 * 2048;
  EXPECT_DOUBLE_EQ(prompt[Phase::kHead].flops, head);
  EXPECT_DOUBLE_EQ(prompt.linears().flops, 512 * (one.linears().flops - head) + head);
  double pairs = 0;
  for (int t_ = 0; t_ < 512; ++t_) pairs += t_ + 1;
  EXPECT_DOUBLE_EQ(prompt[Phase::kAttention].flops, 27 * 16 * 2 * pairs * (192 + 128));
}

// Every parameter of the main model is counted once: against a plain sum over the list.
TEST(Work, EveryShapeAgreesWithItsParameterList) {
  for (const char* name :
       {"deepseek-v3-671b", "deepseek-v2-lite", "deepseek-v2-236b", "kimi-k2-1t", "moonlight-16b-a3b"}) {
    const config::Config c = config::load_config(kShapes + name + ".json");
    model::Transformer t(c);
    double bytes = 0, flops = 0, embedding = 0;
    for (const weights::ParamSpec& spec : model::parameter_list(c)) {
      if (spec.info.layer >= c.num_hidden_layers) continue;
      const auto n = static_cast<double>(spec.info.shape.num_elements());
      bytes += fp8_bytes(spec.info);
      if (spec.info.role == weights::ParamRole::kEmbedding)
        embedding = fp8_bytes(spec.info);
      else if (is_matrix(spec.info.role))
        flops += 2 * n *
                 (spec.info.routed_expert
                      ? static_cast<double>(c.num_experts_per_tok) / static_cast<double>(c.n_routed_experts)
                      : 1);
    }
    const ModelWork work = fp8_work(t);
    const PassWork all = step(work, touched(c, c.n_routed_experts), {1});
    EXPECT_NEAR(work.total_bytes(), bytes, 1e-9 * bytes) << name;
    EXPECT_NEAR(all.linears().bytes, bytes - embedding + embedding / static_cast<double>(c.vocab_size), 1e-9 * bytes)
        << name;
    EXPECT_NEAR(all.linears().flops, flops, 1e-9 * flops) << name;
  }
}

TEST(Work, ALoadedModelHasTheBytesOfItsTensors) {
  for (const char* name : {"v3-tiny-fp8", "v2-tiny", "moonlight-tiny"}) {
    stream::LoadedModel model = stream::load_model(kModels + name);
    const config::Config& c = model.transformer.config;
    double bytes = 0;
    for (const std::string& tensor : model.files->names()) {
      const std::string mtp = "model.layers." + std::to_string(c.num_hidden_layers) + ".";
      if (tensor.starts_with(mtp)) continue;
      const io::TensorInfo& info = *model.files->info(tensor);
      // Vectors are kept as F32.
      const auto n = static_cast<double>(info.shape.num_elements());
      bytes += info.shape.rank() == 1 || tensor.ends_with("_scale_inv")
                   ? 4 * n
                   : n * static_cast<double>(dtype_bytes(info.dtype));
    }
    EXPECT_DOUBLE_EQ(ModelWork(model.transformer).total_bytes(), bytes) << name;
  }
}

TEST(Work, TheTraceSeesTheExpertsOfEveryToken) {
  stream::LoadedModel model = stream::load_model(kModels + "v3-tiny-fp8");
  const model::Transformer& t = model.transformer;
  Context ctx(1);
  TouchedExperts experts(t.config);
  model::SequenceState state = t.new_sequence(8);
  const std::vector<config::TokenId> ids = {1, 2, 3};
  const Observers::Watch watch(ctx.observers, experts);
  t.hidden(ctx, ids, model::Form::kExpanded, state);
  for (Index layer = 0; layer < t.config.num_hidden_layers; ++layer) {
    const auto count = static_cast<Index>(experts.of_layer(layer).size());
    if (!t.config.is_moe_layer(layer)) {
      EXPECT_EQ(count, 0);
      continue;
    }
    EXPECT_GE(count, t.config.num_experts_per_tok);
    EXPECT_LE(count, 3 * t.config.num_experts_per_tok);
  }
  experts.clear();
  EXPECT_TRUE(experts.of_layer(t.config.num_hidden_layers - 1).empty());
}

}  // namespace
}  // namespace hadal::perf
