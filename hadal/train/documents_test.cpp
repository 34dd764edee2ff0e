// Documents packed into one sequence: seen across by default, as the report has it, and with within_documents each as
// if it were alone.
#include <gtest/gtest.h>

#include "hadal/train/training_data.h"
#include "tests/support/layer_harness.h"

namespace hadal::train {
namespace documents_test {
namespace {

using namespace harness;

constexpr Index kLengths[] = {5, 1, 2, 6};
constexpr Objective kObjective{.mtp_weight = 0.4, .balance = 0};  // whose mean is over sequences

// Two sequences of the documents above, whose last tokens predict nothing.
Batch packed() {
  Batch b = batch_of(2, 14, 37);
  std::int32_t document = 0;
  for (Index s = 0, at = 0; s < 2; ++s)
    for (const Index length : kLengths) {
      for (Index i = 0; i < length; ++i, ++at) {
        b.targets[static_cast<std::size_t>(at)] = i + 1 < length ? b.ids[static_cast<std::size_t>(at + 1)] : kIgnored;
        b.documents.push_back(document);
      }
      ++document;
    }
  return b;
}

struct Result {
  Losses losses;
  std::vector<Tensor> gradients;
};

Result result(const std::vector<Batch>& parts, const Denominators& counts) {
  Harness h(v3());
  MicroBatch step(h.model);
  Result r;
  for (const Batch& part : parts) step.run(h.ctx, part, kObjective, counts, r.losses);
  r.gradients = gradients_of(h);
  return r;
}

TEST(Documents, PackedHaveTheLossesAndGradientsThatTheyHaveApart) {
  const Batch batch = packed();
  std::vector<Batch> apart;
  Denominators sum;
  sum.mtp = {0, 0};
  Index at = 0;
  for (int s = 0; s < 2; ++s)
    for (const Index length : kLengths) {
      Batch one{1, length, {}, {}};
      for (Index i = 0; i < length; ++i, ++at) {
        one.ids.push_back(batch.ids[static_cast<std::size_t>(at)]);
        one.targets.push_back(batch.targets[static_cast<std::size_t>(at)]);
      }
      if (length > 1) {
        const Denominators d = denominators(one, 2);
        sum.main += d.main;
        for (std::size_t k = 0; k < 2; ++k) sum.mtp[k] += d.mtp[k];
      }
      apart.push_back(one);
    }
  const Denominators counts = denominators(batch, 2);
  EXPECT_EQ(counts.main, sum.main);
  EXPECT_EQ(counts.mtp, sum.mtp);
  const Result together = result({batch}, counts), alone = result(apart, counts);
  const Result halves = result({batch.part(0, 1), batch.part(1, 2)}, counts);
  for (const Result* other : {&alone, &halves}) {
    EXPECT_NEAR(together.losses.main, other->losses.main, 1e-12);
    for (std::size_t k = 0; k < 2; ++k) EXPECT_NEAR(together.losses.mtp[k], other->losses.mtp[k], 1e-12);
    EXPECT_LT(largest_difference(together.gradients, other->gradients), 1e-12);
  }
}

// The loss of one token depends on a document before it if and only if nothing says that they are two.
TEST(Documents, AreSeenAcrossUnlessToldOtherwise) {
  for (const bool within : {false, true}) {
    Batch batch = packed();
    if (!within) batch.documents.clear();
    std::fill(batch.targets.begin(), batch.targets.end(), kIgnored);
    batch.targets[12] = 5;  // in the last document of the first sequence
    const Denominators counts = denominators(batch, 2);
    EXPECT_EQ(counts.mtp, (std::vector<Index>{1, 1}));
    const Losses before = result({batch}, counts).losses;
    batch.ids[6] = (batch.ids[6] + 1) % 37;  // in the one before it
    const Losses after = result({batch}, counts).losses;
    EXPECT_EQ(before.main == after.main, within);
    EXPECT_EQ(before.mtp == after.mtp, within);
  }
}

TEST(Documents, OfALoadersBatchAreTakenOverWhereTheyAreAskedFor) {
  data::Batch loaded;
  for (Tensor* t : {&loaded.ids, &loaded.targets, &loaded.documents}) {
    *t = Tensor(DType::kI32, {2, 3});
    for (int i = 0; i < 6; ++i) t->ref().data<std::int32_t>()[i] = t == &loaded.documents ? i % 3 / 2 : i;
  }
  EXPECT_TRUE(to_batch(loaded).documents.empty());
  EXPECT_EQ(to_batch(loaded, true).documents, (std::vector<std::int32_t>{0, 0, 1, 0, 0, 1}));
}

}  // namespace
}  // namespace documents_test
}  // namespace hadal::train
