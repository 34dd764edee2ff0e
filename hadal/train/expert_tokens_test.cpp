// Tokens on their way to the experts and back, while training: none is dropped, however uneven the load, and an expert
// without tokens holds nobody up.
#include <gtest/gtest.h>

#include <set>

#include "tests/support/layer_harness.h"

namespace hadal::train {
namespace expert_tokens_test {
namespace {

using namespace harness;
using model::Keep;
using model::Moe;

constexpr Index kTokens = 8, kChosen = 3;
constexpr const char* kMoe = "model.layers.1.mlp.";

// Biases with which every token goes to experts 0, 1 and 2.
void send_all_to_three(Harness& h) {
  Parameter& bias = h.parameters.find(std::string(kMoe) + "gate.e_score_correction_bias");
  for (Index e = 0; e < 8; ++e) bias.bound->data<float>()[e] = e < kChosen ? 10.f : 0.f;
}

TEST(ExpertTokens, EveryTokenComesOnceToEachExpertThatItChose) {
  for (const bool uneven : {false, true}) {
    Harness h(v3());
    if (uneven) send_all_to_three(h);
    const BatchRows rows = h.rows({5, 3});
    Moe::Saved saved;
    h.model.layers[1].moe->forward(h.ctx, h.input(kTokens, 7), rows, Keep{h.kept, false}, saved);
    const ops::ExpertGroups& groups = saved.experts.groups;
    std::set<std::pair<Index, Index>> seen;
    for (std::size_t e = 0; e < 8; ++e) {
      if (uneven) {
        EXPECT_EQ(groups.begin[e + 1] - groups.begin[e], e < kChosen ? kTokens : 0);
      }
      for (auto i = static_cast<std::size_t>(groups.begin[e]); i < static_cast<std::size_t>(groups.begin[e + 1]); ++i) {
        const Index token = groups.token[i], slot = groups.slot[i];
        EXPECT_EQ(saved.chosen.experts.data<std::int32_t>()[token * kChosen + slot], static_cast<std::int32_t>(e));
        EXPECT_TRUE(seen.insert({token, slot}).second);
      }
    }
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(kTokens * kChosen));
  }
}

// With the same weights in all experts, and gate weights that add up to routed_scaling_factor, it does not matter who
// a token goes to: what comes back is its own expert's output, in its own row.
TEST(ExpertTokens, DispatchThenCombineIsTheIdentity) {
  Harness h(v3());
  for (Parameter& p : h.parameters.all())
    if (const auto at = p.name.find(".experts."); p.name.starts_with(kMoe) && at != std::string::npos) {
      const Parameter& first =
          h.parameters.find(p.name.substr(0, at) + ".experts.0" + p.name.substr(p.name.find('.', at + 9)));
      for (Index i = 0; i < p.value->num_elements(); ++i) p.value->data<double>()[i] = first.value->data<double>()[i];
    }
  const BatchRows rows = h.rows({5, 3});
  const Keep keep{h.kept, false};
  const TensorRef u = h.input(kTokens, 7);
  const Moe& moe = *h.model.layers[1].moe;
  model::FeedForward::Saved of_expert, of_shared;
  const ConstTensorRef expert = moe.experts[0].forward(h.kept, u, keep, of_expert);
  const ConstTensorRef shared = moe.shared_experts.forward(h.kept, u, keep, of_shared);
  for (const bool uneven : {false, true}) {
    if (uneven) send_all_to_three(h);
    Moe::Saved saved;
    const ConstTensorRef y = moe.forward(h.kept, u, rows, keep, saved);
    for (Index i = 0; i < y.num_elements(); ++i)
      ASSERT_NEAR(y.data<double>()[i], 2.5 * expert.data<double>()[i] + shared.data<double>()[i], 1e-6) << i;
  }
}

TEST(ExpertTokens, ExpertsWithoutTokensHaveNoGradientAndTheOthersTheirs) {
  Harness h(v3());
  send_all_to_three(h);
  const BatchRows rows = h.rows({5, 3});
  const Keep keep{h.kept, false};
  const TensorRef u = h.input(kTokens, 7), r = h.weighting(u.shape());
  const Moe& moe = *h.model.layers[1].moe;
  const auto loss = [&] {
    const Workspace::Scope scope(h.saved);
    Moe::Saved saved;
    return Harness::weighed(moe.forward(h.ctx, u, rows, keep, saved), r);
  };
  Moe::Saved saved;
  Moe::Deltas deltas;
  moe.forward(h.ctx, u, rows, keep, saved);
  const TensorRef du = moe.backward_input(h.ctx, r, rows, 0, saved, deltas);
  moe.backward_weight(h.ctx, u, saved, deltas);
  h.expect("u", loss, u, du);
  h.expect_parameters(kMoe, loss);
  for (Index e = 0; e < 8; ++e) {
    const ConstTensorRef g = h.parameters.find(kMoe + ("experts." + std::to_string(e)) + ".down_proj.weight").grad;
    double most = 0;
    for (Index i = 0; i < g.num_elements(); ++i) most = std::max(most, std::abs(g.data<double>()[i]));
    EXPECT_EQ(most > 0, e < kChosen) << e;
  }
}

}  // namespace
}  // namespace expert_tokens_test
}  // namespace hadal::train
