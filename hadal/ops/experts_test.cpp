#include "hadal/ops/experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "hadal/core/error.h"

namespace hadal::ops {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Selection select(Context& ctx, std::vector<float> logits, std::vector<float> bias) {
  const auto experts = static_cast<Index>(bias.size());
  const TensorRef l = ctx.workspace.floats({static_cast<Index>(logits.size()) / experts, experts});
  const TensorRef b = ctx.workspace.floats({experts});
  std::copy(logits.begin(), logits.end(), l.data<float>());
  std::copy(bias.begin(), bias.end(), b.data<float>());
  return select_experts(ctx, l, b, {.num_experts_per_tok = 2});
}

std::string error_of(std::vector<float> logits, std::vector<float> bias) {
  Context ctx(1);
  try {
    select(ctx, std::move(logits), std::move(bias));
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(SelectExperts, ScoresThatAreNoNumbersAreNamed) {
  const std::vector<float> zeros(3);
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    EXPECT_NE(error_of({1, 2, 3, 4, bad, 6}, zeros).find("the router's score of expert 1 is"), std::string::npos)
        << bad;
  }
  for (const float bad : {std::nanf(""), kInfinity})
    EXPECT_NE(error_of({1, 2, 3}, {0, 0, bad}).find("e_score_correction_bias of expert 2 is"), std::string::npos)
        << bad;
}

TEST(SelectExperts, ABiasOfMinusInfinityLeavesAnExpertOut) {
  Context ctx(1);
  const auto chosen = select(ctx, {9, 1, 2, 1, 9, 2}, {-kInfinity, 0, 0}).experts.view<std::int32_t, 2>();
  EXPECT_EQ(chosen(0, 0), 2);
  EXPECT_EQ(chosen(0, 1), 1);
  EXPECT_EQ(chosen(1, 0), 1);
  EXPECT_EQ(chosen(1, 1), 2);
}

TEST(SelectExperts, ARuleThatCannotBeMetIsRefused) {
  Context ctx(1);
  const TensorRef logits = ctx.workspace.floats({1, 4});
  std::fill_n(logits.data<float>(), 4, 0.0f);
  EXPECT_THROW(select_experts(ctx, logits, {}, {.num_experts_per_tok = 3, .n_group = 2, .topk_group = 1}), Error);
  EXPECT_THROW(select_experts(ctx, logits, {}, {.num_experts_per_tok = 5}), Error);
}

}  // namespace
}  // namespace hadal::ops
