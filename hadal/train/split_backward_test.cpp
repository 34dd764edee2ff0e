// The halves of a backward pass: what a schedule may do with them.
#include <gtest/gtest.h>

#include "tests/support/layer_harness.h"

namespace hadal::train {
namespace split_backward_test {
namespace {

using namespace harness;
using model::Block;
using model::Keep;
using model::Mtp;

struct Result {
  Tensor dx;
  std::vector<Tensor> gradients;
};

// Two layers and, where the model has one, an MTP module behind them.
Result run_layers(const config::Config& c, bool recompute, bool apart) {
  Harness h(c);
  const Keep keep{h.kept, recompute};
  const BatchRows rows = h.rows({5, 3});
  const TensorRef x = h.input(8, 7), embedded = h.input(8, 8), r = h.weighting(x.shape());
  Block::Saved saved[2];
  Block::Deltas deltas[2];
  Mtp::Saved mtp_saved;
  Mtp::Deltas mtp_deltas;
  const TensorRef y = h.model.layers[0].forward(h.ctx, x, rows, keep, saved[0]);
  const TensorRef z = h.model.layers[1].forward(h.ctx, y, rows, keep, saved[1]);
  ConstTensorRef d = r;
  if (!h.model.mtp.empty()) {
    h.model.mtp[0].forward(h.ctx, {embedded, z}, rows, keep, mtp_saved);
    d = h.model.mtp[0].backward_input(h.ctx, r, rows, 0.3, mtp_saved, mtp_deltas).previous;
    if (!apart) h.model.mtp[0].backward_weight(h.ctx, mtp_saved, mtp_deltas);
  }
  for (const std::size_t layer : {1, 0}) {
    d = h.model.layers[layer].backward_input(h.ctx, d, rows, 0.3, saved[layer], deltas[layer]);
    if (!apart) h.model.layers[layer].backward_weight(h.ctx, saved[layer], deltas[layer]);
  }
  Result result{Tensor::copy_of(d), {}};
  if (apart) {
    for (const Parameter& p : h.parameters.all())
      for (Index i = 0; p.grad && i < p.grad->num_elements(); ++i)
        EXPECT_EQ(p.grad->data<double>()[i], 0) << p.name << " was touched by the half that is about inputs";
    // In another order than that of the inputs.
    for (const std::size_t layer : {0, 1}) h.model.layers[layer].backward_weight(h.ctx, saved[layer], deltas[layer]);
    if (!h.model.mtp.empty()) h.model.mtp[0].backward_weight(h.ctx, mtp_saved, mtp_deltas);
  }
  for (Index i = 0; i < d.num_elements(); ++i)
    EXPECT_EQ(d.data<double>()[i], result.dx->data<double>()[i]) << "changed by the half that is about weights";
  result.gradients = gradients_of(h);
  return result;
}

TEST(SplitBackward, HalvesApartInAnyOrderGiveTheBitsOfHalvesTogether) {
  for (const config::Config& c : {v3(), v2()})
    for (const bool recompute : {false, true}) {
      const Result together = run_layers(c, recompute, false), apart = run_layers(c, recompute, true);
      EXPECT_EQ(largest_difference(together.dx.ref(), apart.dx.ref()), 0);
      EXPECT_EQ(largest_difference(together.gradients, apart.gradients), 0);
    }
}

}  // namespace
}  // namespace split_backward_test
}  // namespace hadal::train
