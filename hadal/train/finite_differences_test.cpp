// Every layer's backward pass against finite differences, in double: the loss is a fixed random weighting of the
// layer's output, and every input and parameter is moved a little both ways.
#include <gtest/gtest.h>

#include "tests/support/layer_harness.h"

namespace hadal::train {
namespace finite_differences_test {
namespace {

using namespace harness;
using model::Block;
using model::Keep;

// The verbs of a Block, an attention and a feed-forward of every kind among them.
void check_block(const config::Config& c, Index layer, bool recompute) {
  Harness h(c);
  const Keep keep{h.kept, recompute};
  const Block& block = h.model.layers[static_cast<std::size_t>(layer)];
  const BatchRows rows = h.rows({5, 3});
  const TensorRef x = h.input(8, 7), r = h.weighting(x.shape());
  constexpr double kBalance = 0.7;
  const auto loss = [&] {
    const Workspace::Scope scope(h.saved);
    Block::Saved saved;
    const double of_output = Harness::weighed(block.forward(h.ctx, x, rows, keep, saved), r);
    return of_output + kBalance * saved.moe.balance;
  };
  Block::Saved saved;
  Block::Deltas deltas;
  block.forward(h.ctx, x, rows, keep, saved);
  const TensorRef dx = block.backward_input(h.ctx, r, rows, kBalance, saved, deltas);
  block.backward_weight(h.ctx, saved, deltas);
  h.expect("x", loss, x, dx);
  h.expect_parameters("model.layers." + std::to_string(layer) + ".", loss);
  EXPECT_GT(h.checked, 100);
}

TEST(FiniteDifferences, ADenseBlock) {
  check_block(v3(), 0, false);
}
TEST(FiniteDifferences, AMixtureWithGroupsAndNormalisedSigmoidWeights) {
  check_block(v3(), 1, false);
}
TEST(FiniteDifferences, AMixtureWithSoftmaxWeightsAsTheyAreAndYarn) {
  check_block(v2(), 1, false);
}
TEST(FiniteDifferences, WhatIsMadeAgain) {
  check_block(v3(), 1, true);
}

TEST(FiniteDifferences, AnMtpModule) {
  Harness h(v3());
  const Keep keep{h.kept, false};
  const BatchRows rows = h.rows({4, 4});
  const TensorRef embedded = h.input(8, 7), previous = h.input(8, 8), r = h.weighting(embedded.shape());
  const model::Mtp& mtp = h.model.mtp[0];
  const auto loss = [&] {
    const Workspace::Scope scope(h.saved);
    model::Mtp::Saved saved;
    const double of_output = Harness::weighed(mtp.forward(h.ctx, {embedded, previous}, rows, keep, saved), r);
    return of_output + 0.5 * saved.block.moe.balance;
  };
  model::Mtp::Saved saved;
  model::Mtp::Deltas deltas;
  mtp.forward(h.ctx, {embedded, previous}, rows, keep, saved);
  const model::Mtp::Inputs d = mtp.backward_input(h.ctx, r, rows, 0.5, saved, deltas);
  mtp.backward_weight(h.ctx, saved, deltas);
  h.expect("embedded", loss, embedded, d.embedded);
  h.expect("previous", loss, previous, d.previous);
  h.expect_parameters("model.layers.2.", loss);
}

// Embedding, cross-entropy, the shared head and the sums over depths.
TEST(FiniteDifferences, TheWholeObjective) {
  Harness h(v3());
  const Batch batch = batch_of(2, 6, 37);
  run(h, batch, 2);
  const std::vector<Tensor> gradients = gradients_of(h);
  const auto loss = [&] { return run(h, batch, 2).total({.mtp_weight = 0.4, .balance = 0.3}); };
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    Parameter& p = h.parameters.all()[i];
    if (p.grad && (p.name.find(".layers.") == std::string::npos || p.name.find("layernorm") != std::string::npos))
      h.expect(p.name, loss, p.value, gradients[i]);
  }
}

TEST(MicroBatches, AnySplitGivesTheSameGradientsAndLosses) {
  Harness h(v3());
  const Batch batch = batch_of(4, 7, 37);
  const Losses whole = run(h, batch, 4);
  const std::vector<Tensor> gradients = gradients_of(h);
  for (const Index size : {1, 2, 3}) {
    const Losses parts = run(h, batch, size);
    EXPECT_NEAR(parts.main, whole.main, 1e-12);
    EXPECT_NEAR(parts.balance, whole.balance, 1e-12);
    for (std::size_t k = 0; k < whole.mtp.size(); ++k) EXPECT_NEAR(parts.mtp[k], whole.mtp[k], 1e-12);
    EXPECT_EQ(parts.counts, whole.counts);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const Parameter& p = h.parameters.all()[i];
      for (Index j = 0; p.grad && j < p.grad->num_elements(); ++j)
        ASSERT_NEAR(p.grad->data<double>()[j], gradients[i]->data<double>()[j], 1e-12) << p.name;
    }
  }
}

TEST(Recompute, ChangesNoBit) {
  Harness h(v3());
  const Batch batch = batch_of(3, 7, 37);
  const Losses kept = run(h, batch, 3);
  const std::vector<Tensor> gradients = gradients_of(h);
  const Losses again = run(h, batch, 3, true);
  EXPECT_EQ(kept.main, again.main);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const Parameter& p = h.parameters.all()[i];
    for (Index j = 0; p.grad && j < p.grad->num_elements(); ++j)
      ASSERT_EQ(p.grad->data<double>()[j], gradients[i]->data<double>()[j]) << p.name;
  }
}

}  // namespace
}  // namespace finite_differences_test
}  // namespace hadal::train
