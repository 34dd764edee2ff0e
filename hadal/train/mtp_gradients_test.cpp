// Embedding and head belong to the main model and to every MTP depth (report, section 2.2).
#include <gtest/gtest.h>

#include "tests/support/layer_harness.h"

namespace hadal::train {
namespace mtp_gradients_test {
namespace {

using namespace harness;

// A weight of the same values with a gradient of its own.
struct Copy {
  Copy(const weights::Weight& of, weights::Weight& at)
      : values(Tensor::copy_of(of.values)), grad(Tensor::copy_of(of.values)) {
    fill(grad.ref(), 0, 0);
    at = of;
    at.values = values;
    at.grad = grad;
  }
  Tensor values, grad;
};

double largest(const ConstTensorRef& t) {
  double most = 0;
  for (Index i = 0; i < t.num_elements(); ++i) most = std::max(most, std::abs(t.data<double>()[i]));
  return most;
}

TEST(MtpGradients, OfTheSharedEmbeddingAndHeadAreTheSumOfTheirParts) {
  const Batch batch = batch_of(3, 7, 37);
  Harness shared(v3());
  run(shared, batch, 2);

  Harness apart(v3());
  std::vector<Copy> embeddings, heads;
  for (model::Mtp& mtp : apart.model.mtp) {
    embeddings.emplace_back(apart.model.embed_tokens, mtp.embed_tokens);
    heads.emplace_back(apart.model.lm_head.weight, mtp.shared_head.head.weight);
  }
  ASSERT_EQ(heads.size(), 2u);
  run(apart, batch, 2);

  for (const bool head : {false, true}) {
    const std::string name = head ? "lm_head.weight" : "model.embed_tokens.weight";
    const ConstTensorRef whole = shared.parameters.find(name).grad, main = apart.parameters.find(name).grad;
    const std::vector<Copy>& depths = head ? heads : embeddings;
    EXPECT_GT(largest(main), 1e-3);
    for (const Copy& depth : depths) EXPECT_GT(largest(depth.grad), 1e-3) << name;
    for (Index i = 0; i < whole.num_elements(); ++i) {
      double sum = main.data<double>()[i];
      for (const Copy& depth : depths) sum += depth.grad->data<double>()[i];
      ASSERT_NEAR(whole.data<double>()[i], sum, 1e-13) << name << " " << i;
    }
  }
  // Nobody else sees a difference.
  for (const Parameter& p : shared.parameters.all())
    if (p.grad && p.name.find(".layers.") != std::string::npos) {
      EXPECT_EQ(largest_difference(p.grad.ref(), apart.parameters.find(p.name).grad.ref()), 0) << p.name;
    }
}

}  // namespace
}  // namespace mtp_gradients_test
}  // namespace hadal::train
