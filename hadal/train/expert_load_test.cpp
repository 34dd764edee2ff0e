#include "hadal/train/expert_load.h"

#include <gmock/gmock.h>

#include <cmath>

#include "hadal/config/config.h"

namespace hadal::train {
namespace expert_load_test {
namespace {

using ::testing::ElementsAre;

// Layer 0 is dense, 1 and 2 have 4 experts, 3 is MTP's.
config::Config small() {
  config::Config c = config::load_config(HADAL_SOURCE_DIR "/models/mini");
  c.hidden_size = 8;
  c.intermediate_size = c.moe_intermediate_size = 8;
  c.num_hidden_layers = 3;
  c.first_k_dense_replace = 1;
  c.n_routed_experts = 4;
  c.n_group = c.topk_group = 1;
  c.num_experts_per_tok = 2;
  return c;
}

TEST(ExpertLoads, AreThoseOfTheLayersWithExpertsInOrder) {
  const config::Config c = small();
  Transformer model(c);
  Parameters parameters(model, Precision::kF32);
  auto* bias = parameters.find("model.layers.2.mlp.gate.e_score_correction_bias").value->data<float>();
  bias[1] = -0.5F;
  bias[3] = 0.25F;
  const auto loads = expert_loads(c, parameters, {{2, 0, 6, 0}, {1, 1, 1, 1}, {0, 0, 0, 0}});
  ASSERT_EQ(loads.size(), 3u);
  EXPECT_THAT(std::vector<Index>({loads[0].layer, loads[1].layer, loads[2].layer}), ElementsAre(1, 2, 3));
  EXPECT_EQ(loads[0].max_vio, 2);  // 6 / 2 - 1
  EXPECT_EQ(loads[0].dead, 2);
  EXPECT_THAT(loads[0].counts, ElementsAre(2, 0, 6, 0));
  EXPECT_EQ(loads[0].bias_low, 0);
  EXPECT_EQ(loads[1].max_vio, 0);
  EXPECT_EQ(loads[1].dead, 0);
  EXPECT_EQ(loads[1].bias_low, -0.5);
  EXPECT_EQ(loads[1].bias_high, 0.25);
  EXPECT_EQ(loads[2].max_vio, 0);  // no token came
  EXPECT_EQ(loads[2].dead, 4);
  EXPECT_EQ(mean_max_vio({loads[0], loads[1]}), 1);
  EXPECT_TRUE(std::isnan(mean_max_vio({})));
  EXPECT_EQ(expert_loads(c, parameters, {{1, 1, 1, 1}}).size(), 1u);  // those of a pass without MTP
}

TEST(ExpertCounter, CountsTheChoicesOfTheMainModelsLayersAlone) {
  ExpertCounter counter(small());
  const Tensor chosen = Tensor::zeros(DType::kI32, {3, 2}), scores = Tensor::zeros(DType::kF32, {3, 2});
  for (const int i : {0, 2, 4}) chosen->data<std::int32_t>()[i] = 3;
  for (const Index layer : {0, 1, 2, 3}) {
    counter.on_boundary(layer);
    counter.on_boundary(-1);  // a piece of other work
    counter.on_value("topk_weight", scores);
    if (layer != 0) counter.on_value("topk_idx", chosen);
  }
  counter.on_boundary(2);
  counter.on_value("topk_idx", chosen);
  EXPECT_THAT(counter.counts(), ElementsAre(ElementsAre(3, 0, 0, 3), ElementsAre(6, 0, 0, 6)));
}

}  // namespace
}  // namespace expert_load_test
}  // namespace hadal::train
