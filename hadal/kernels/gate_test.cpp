#include "hadal/kernels/gate.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>

#include "tests/support/golden.h"

namespace hadal::kernels {
namespace {

struct Chosen {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
};

Chosen choose(const GateArgs& args, const std::vector<float>& logits) {
  Chosen out{std::vector<std::int32_t>(static_cast<std::size_t>(args.num_experts_per_tok)),
             std::vector<float>(static_cast<std::size_t>(args.num_experts_per_tok))};
  std::vector<double> scratch(3 * logits.size());
  ref::gate(args, logits.data(), scratch.data(), out.experts.data(), out.weights.data());
  return out;
}

int units_apart(float a, float b) {
  return std::abs(std::bit_cast<std::int32_t>(a) - std::bit_cast<std::int32_t>(b));
}

// Four experts, one chosen, sigmoid, no groups.
GateArgs small() {
  return {.n_routed_experts = 4, .num_experts_per_tok = 1};
}

TEST(Gate, Rule20_Rule24_RealSizesMatchTheGoldens) {
  const test::Golden golden(HADAL_TEST_DATA "/golden/router.safetensors");
  std::ifstream file(HADAL_TEST_DATA "/golden/router.json");
  const auto cases = nlohmann::json::parse(file);
  ASSERT_GE(cases.size(), 8u);
  for (const auto& [name, c] : cases.items()) {
    const auto logits = golden.floats(name + ".logits"), weights = golden.floats(name + ".weight");
    const auto bias = golden.contains(name + ".bias") ? golden.floats(name + ".bias") : std::vector<float>();
    const auto experts = golden.ints(name + ".idx");
    const std::string method = c["topk_method"];
    const GateArgs args{.n_routed_experts = c["n_routed_experts"],
                        .num_experts_per_tok = c["num_experts_per_tok"],
                        .n_group = method == "greedy" ? Index{1} : c["n_group"].get<Index>(),
                        .topk_group = c["topk_group"],
                        .group_best = method == "noaux_tc" ? 2 : 1,
                        .sigmoid = c["scoring_func"] == "sigmoid",
                        .norm_topk_prob = c["norm_topk_prob"],
                        .routed_scaling_factor = c["routed_scaling_factor"],
                        .bias = bias.empty() ? nullptr : bias.data()};
    const auto e = static_cast<std::size_t>(args.n_routed_experts),
               k = static_cast<std::size_t>(args.num_experts_per_tok);
    for (std::size_t t = 0; t * e < logits.size(); ++t) {
      const Chosen got = choose(args, {logits.begin() + static_cast<std::ptrdiff_t>(t * e),
                                       logits.begin() + static_cast<std::ptrdiff_t>((t + 1) * e)});
      for (std::size_t i = 0; i < k; ++i) {
        ASSERT_EQ(got.experts[i], experts[t * k + i]) << name << " token " << t << " slot " << i;
        ASSERT_LE(units_apart(got.weights[i], weights[t * k + i]), 4) << name;
      }
    }
  }
}

TEST(Gate, Rule21_TheBiasChoosesButDoesNotWeigh) {
  GateArgs args = small();
  const std::vector<float> bias = {0, 0, 5, 0};
  args.bias = bias.data();
  args.norm_topk_prob = false;
  const Chosen got = choose(args, {2, 1, 0, -1});
  EXPECT_EQ(got.experts[0], 2);
  EXPECT_FLOAT_EQ(got.weights[0], 0.5f);
}

TEST(Gate, Rule22_V3GroupsByTheirTwoBestV2ByTheirBest) {
  GateArgs args{
      .n_routed_experts = 6, .num_experts_per_tok = 1, .n_group = 2, .topk_group = 1, .group_best = 2, .sigmoid = true};
  const std::vector<float> logits = {3, -9, -9, 2, 2, -9};  // one very good expert against two good ones
  EXPECT_EQ(choose(args, logits).experts[0], 3);
  args.group_best = 1;
  EXPECT_EQ(choose(args, logits).experts[0], 0);
}

TEST(Gate, Rule23_ExcludedGroupsAreMinusInfinity) {
  // All biased scores of the kept group are negative: zeros in place of -inf would let excluded experts win.
  GateArgs args{
      .n_routed_experts = 4, .num_experts_per_tok = 2, .n_group = 2, .topk_group = 1, .group_best = 2, .sigmoid = true};
  const std::vector<float> bias = {-3, -3, -4, -4};
  args.bias = bias.data();
  const Chosen got = choose(args, {0, 0, 0, 0});
  EXPECT_EQ(got.experts, (std::vector<std::int32_t>{0, 1}));
}

TEST(Gate, Rule27_TiesGoToTheLowerIndex) {
  GateArgs args{
      .n_routed_experts = 8, .num_experts_per_tok = 3, .n_group = 4, .topk_group = 2, .group_best = 2, .sigmoid = true};
  EXPECT_EQ(choose(args, std::vector<float>(8, 0.5f)).experts, (std::vector<std::int32_t>{0, 1, 2}));
}

TEST(Gate, Rule28_GroupsChangeTheChoice) {
  GateArgs args{
      .n_routed_experts = 4, .num_experts_per_tok = 2, .n_group = 2, .topk_group = 1, .group_best = 2, .sigmoid = true};
  const std::vector<float> logits = {3, 0, 2.9f, -5};
  EXPECT_EQ(choose(args, logits).experts, (std::vector<std::int32_t>{0, 1}));
  args.n_group = 1;
  EXPECT_EQ(choose(args, logits).experts, (std::vector<std::int32_t>{0, 2}));
}

TEST(Gate, AnExpertWithABiasOfMinusInfinityIsChosenLastAndOnce) {
  const float never = -std::numeric_limits<float>::infinity();
  GateArgs args{
      .n_routed_experts = 4, .num_experts_per_tok = 3, .n_group = 1, .topk_group = 1, .group_best = 2, .sigmoid = true};
  const std::vector<float> bias = {never, 0, never, 0};
  args.bias = bias.data();
  EXPECT_EQ(choose(args, {9, 0, 9, 1}).experts, (std::vector<std::int32_t>{3, 1, 0}));
}

TEST(Gate, AGroupOfMinusInfinityIsNotAKeptOne) {
  // Two groups have a score of minus infinity, the mark that a kept one once had.
  const float never = -std::numeric_limits<float>::infinity();
  GateArgs args{
      .n_routed_experts = 6, .num_experts_per_tok = 2, .n_group = 3, .topk_group = 1, .group_best = 2, .sigmoid = true};
  const std::vector<float> bias = {never, 0.5f, -1, -1, never, 0.5f};
  args.bias = bias.data();
  EXPECT_EQ(choose(args, {0, 0, 0, 1, 0, 0}).experts, (std::vector<std::int32_t>{3, 2}));
}

TEST(Gate, NanLogitsGiveExpertsInRange) {
  GateArgs args = small();
  args.num_experts_per_tok = 2;
  for (std::int32_t e : choose(args, std::vector<float>(4, std::numeric_limits<float>::quiet_NaN())).experts)
    EXPECT_TRUE(e >= 0 && e < 4);
}

}  // namespace
}  // namespace hadal::kernels
