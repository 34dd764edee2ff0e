// The scalar kernels round activations as they are asked to: beside values that were rounded by hand, and the fast
// ones.
#include <gtest/gtest.h>

#include <cmath>

#include "hadal/core/context.h"
#include "hadal/kernels/backend.h"
#include "hadal/kernels/test_products.h"

namespace hadal::kernels {
namespace ref_rounding_test {
namespace {

std::vector<float> by(Isa isa, const Problem& p) {
  Context ctx(2, isa);
  std::vector<float> y;
  LinearArgs a = p.args(y);
  backend(ctx).linear(ctx, std::span(&a, 1), false);
  return y;
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(double{a[i]} - b[i]));
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return difference / largest;
}

TEST(RefRounding, Bf16RoundsTheInputAndNothingElse) {
  for (const Format& format : kFormats) {
    Problem p(format, 3, 20, 300, 0, 4);
    Problem by_hand = p;
    p.activations = Activations::kBf16;
    for (float& x : by_hand.x) x = bf16_to_float(float_to_bf16(x));
    EXPECT_EQ(by(Isa::kRef, p), by(Isa::kRef, by_hand)) << format.name;
    p.activations = Activations::kF32;
    EXPECT_NE(by(Isa::kRef, p), by(Isa::kRef, by_hand)) << format.name;
  }
}

TEST(RefRounding, TheFastKernelsAgree) {
  if (!isa_supported(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  for (const Format& format : kFormats)
    for (const Activations activations : {Activations::kBf16, Activations::kInt8}) {
      Problem p(format, 5, 40, 300, 0, 5);
      p.activations = activations;
      EXPECT_LE(worst(by(Isa::kAvx2, p), by(Isa::kRef, p)), 1e-5)
          << format.name << " " << activations_name(activations);
    }
}

TEST(RefRounding, Int8IsNotTheProductOfUnroundedInputs) {
  Problem p(kFormats[3], 3, 20, 300, 0, 6);
  const auto exact = by(Isa::kRef, p);
  p.activations = Activations::kInt8;
  const auto rounded = by(Isa::kRef, p);
  EXPECT_GT(worst(rounded, exact), 1e-4);
  EXPECT_LT(worst(rounded, exact), 0.1);
}

}  // namespace
}  // namespace ref_rounding_test
}  // namespace hadal::kernels
