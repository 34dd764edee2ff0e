#include "hadal/ops/quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/golden.h"

namespace hadal::ops {
namespace {

TEST(QuantizeBlocks, Rule29_Rule30_CodesScalesAndValuesAreExact) {
  const test::Golden golden(HADAL_TEST_DATA "/golden/formats.safetensors");
  Context ctx(2);
  auto in = golden.floats("weight.in");
  const TensorRef x(in.data(), DType::kF32, {300, 384});
  for (const bool ue8m0 : {false, true}) {
    const std::string prefix = ue8m0 ? "weight.ue8m0." : "weight.";
    const Tensor codes(DType::kF8E4M3, {300, 384}), scale(DType::kF32, {3, 3}), back(DType::kF32, {300, 384});
    quantize_blocks(ctx, x, ue8m0, codes, scale);
    dequantize_blocks(ctx, {.values = codes, .scale = scale}, back);
    const auto q = golden.bytes(prefix + "q");
    const auto s = golden.floats(prefix + "scale_inv"), v = golden.floats(prefix + "dequant");
    for (std::size_t i = 0; i < q.size(); ++i) ASSERT_EQ(codes->data<e4m3>()[i].bits, q[i]) << prefix << i;
    for (std::size_t i = 0; i < s.size(); ++i) ASSERT_EQ(scale->data<float>()[i], s[i]) << prefix << i;
    for (std::size_t i = 0; i < v.size(); ++i) ASSERT_EQ(back->data<float>()[i], v[i]) << prefix << i;
  }
}

TEST(QuantizeBlocks, Rule35_PowerOfTwoScalesAreOnlyMadeOnRequest) {
  Context ctx(1);
  const Tensor x = Tensor::zeros(DType::kF32, {2, 2}), codes(DType::kF8E4M3, {2, 2}), scale(DType::kF32, {1, 1});
  x->data<float>()[0] = 3.0f;
  quantize_blocks(ctx, x, false, codes, scale);
  EXPECT_EQ(scale->data<float>()[0], 3.0f / 448.0f);
  quantize_blocks(ctx, x, true, codes, scale);
  EXPECT_EQ(scale->data<float>()[0], 0x1p-7f);
}

TEST(QuantizeBlocks, ABlockOfZerosHasScaleOne) {
  Context ctx(1);
  const Tensor x = Tensor::zeros(DType::kF32, {130, 5}), codes(DType::kF8E4M3, {130, 5}), scale(DType::kF32, {2, 1});
  quantize_blocks(ctx, x, false, codes, scale);
  EXPECT_EQ(scale->data<float>()[0], 1.0f);
  EXPECT_EQ(scale->data<float>()[1], 1.0f);
}

// An infinity, or a NaN beside larger values: the scale says so, as for integers, and other blocks are as ever.
TEST(QuantizeBlocks, DamageShowsInTheScale) {
  Context ctx(1);
  const Tensor x = Tensor::zeros(DType::kF32, {130, 5}), codes(DType::kF8E4M3, {130, 5}), scale(DType::kF32, {2, 1});
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    x->data<float>()[3] = bad;
    x->data<float>()[4] = 7.0f;
    x->data<float>()[129 * 5] = 448.0f;
    for (const bool ue8m0 : {false, true}) {
      quantize_blocks(ctx, x, ue8m0, codes, scale);
      EXPECT_FALSE(std::isfinite(scale->data<float>()[0]));
      EXPECT_EQ(scale->data<float>()[1], 1.0f);
    }
  }
}

}  // namespace
}  // namespace hadal::ops
