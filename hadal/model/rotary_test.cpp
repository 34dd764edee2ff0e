#include "hadal/model/rotary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "hadal/io/safetensors.h"
#include "hadal/ops/rope.h"

namespace hadal::model {

using config::load_config;
namespace {

const std::string kShapes = HADAL_TEST_DATA "/shapes/";

Config plain() {
  Config c = load_config(kShapes + "deepseek-v3-671b.json");
  c.yarn.reset();
  return c;
}

class RotaryGolden : public ::testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  io::SafetensorsFile golden{HADAL_TEST_DATA "/golden/rope.safetensors"};
  ConstTensorRef tensor(const std::string& suffix) const {
    return golden.tensor(*golden.find(GetParam().first + std::string(".") + suffix));
  }
  Config config() const { return GetParam().second ? load_config(kShapes + GetParam().second) : plain(); }
};

TEST_P(RotaryGolden, Rule14_FrequenciesAndRule15_SoftmaxFactorMatch) {
  const Rotary rotary(config());
  const ConstTensorRef expected = tensor("inv_freq");
  ASSERT_EQ(expected.num_elements(), static_cast<Index>(rotary.inv_freq.size()));
  for (std::size_t i = 0; i < rotary.inv_freq.size(); ++i)
    EXPECT_NEAR(rotary.inv_freq[i] / expected.data<double>()[i], 1.0, 1e-14) << i;
  EXPECT_NEAR(rotary.softmax_scale_factor, tensor("softmax_scale_factor").data<double>()[0], 1e-14);
  EXPECT_EQ(rotary.magnitude, 1.0);
}

TEST_P(RotaryGolden, Rule12_InterleavedPairsAreRotatedWithin1e6) {
  const Rotary rotary(config());
  Context ctx(1);
  const ConstTensorRef in = tensor("in"), out = tensor("out");
  for (Index i = 0; i < in.size(0); ++i) {
    const Index position = tensor("pos").data<std::int64_t>()[i];
    const ops::RopeTable table = ops::rope_table(ctx, rotary.inv_freq, std::span(&position, 1), rotary.magnitude);
    const TensorRef rotated = ops::rope(ctx, in.rows(i, i + 1).split_last(1, in.size(1)), table);
    for (Index c = 0; c < in.size(1); ++c)
      EXPECT_NEAR(rotated.data<float>()[c], (out.view<float, 2>()(i, c)), 1e-6) << position;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RotaryGolden,
                         ::testing::Values(std::pair{"v3", "deepseek-v3-671b.json"},
                                           std::pair{"v2-lite", "deepseek-v2-lite.json"},
                                           std::pair{"kimi-k2", "kimi-k2-1t.json"},
                                           std::pair<const char*, const char*>{"plain", nullptr}));

TEST(Rotary, Rule15_PublishedFactors) {
  EXPECT_NEAR(Rotary(load_config(kShapes + "deepseek-v3-671b.json")).softmax_scale_factor, 1.8739, 5e-5);
  EXPECT_NEAR(Rotary(load_config(kShapes + "deepseek-v2-lite.json")).softmax_scale_factor, 1.5896, 5e-5);
}

TEST(Rotary, UnequalMscalesScaleCosineAndSine) {
  Config c = load_config(kShapes + "deepseek-v3-671b.json");
  c.yarn->mscale_all_dim = 0;
  const Rotary rotary(c);
  EXPECT_DOUBLE_EQ(rotary.softmax_scale_factor, 1.0);
  EXPECT_DOUBLE_EQ(rotary.magnitude, 0.1 * std::log(40.0) + 1);
}

TEST(Rotary, Rule16_YarnIsAMatterOfTheConfigNotOfTheLength) {
  Config c = load_config(kShapes + "deepseek-v3-671b.json");
  const Rotary with(c);
  c.max_position_embeddings = 2048;
  EXPECT_EQ(Rotary(c).inv_freq, with.inv_freq);
  c.yarn.reset();
  EXPECT_NE(Rotary(c).inv_freq, with.inv_freq);
}

}  // namespace
}  // namespace hadal::model
