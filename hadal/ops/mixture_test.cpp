// The fused mixture against the operations it is made of.
#include <gtest/gtest.h>

#include <algorithm>

#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/experts.h"
#include "hadal/ops/linear.h"

namespace hadal::ops {
namespace {

Tensor random_matrix(DType dtype, Index rows, Index columns, std::uint64_t seed) {
  Tensor t(dtype, {rows, columns});
  const Philox random(seed, 1);
  for (Index i = 0; i < rows * columns; ++i) {
    const auto v = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) - 0.5);
    if (dtype == DType::kBF16)
      t->data<bf16>()[i] = float_to_bf16(v);
    else
      t->data<float>()[i] = v;
  }
  return t;
}

// The inner width takes several pieces, and its last block of 128 is cut short.
TEST(Mixture, Rule18_OneExpertHasTheBitsOfItsLinearsForEveryRounding) {
  constexpr Index kWidth = 192, kInner = 330;
  const Tensor x = random_matrix(DType::kF32, 40, kWidth, 1);
  const Tensor gate = random_matrix(DType::kBF16, kInner, kWidth, 2),
               up = random_matrix(DType::kBF16, kInner, kWidth, 3),
               down = random_matrix(DType::kBF16, kWidth, kInner, 4);
  const Weight g{.values = gate}, u{.values = up}, d{.values = down};
  const FeedForwardRef expert{&g, &u, &d};
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16})
    for (const Activations activations : {Activations::kF32, Activations::kBf16, Activations::kInt8})
      for (const Index tokens : {1, 5, 40}) {
        if (!isa_supported(isa)) continue;
        Context ctx(2, Numerics{isa, activations});
        const TensorRef rows = x->rows(0, tokens);
        const Tensor experts = Tensor::zeros(DType::kI32, {tokens, 1}), weights(DType::kF32, {tokens, 1});
        std::fill_n(weights->data<float>(), tokens, 1.0f);
        const TensorRef got = mixture(ctx, rows, {experts, weights}, {&expert, 1}, {}, false);
        const TensorRef inner = swiglu(ctx, linear(ctx, rows, g), linear(ctx, rows, u));
        const TensorRef expected = linear(ctx, inner, d);
        for (Index i = 0; i < tokens * kWidth; ++i)
          ASSERT_EQ(got.data<float>()[i], expected.data<float>()[i])
              << isa_name(isa) << " " << activations_name(activations) << ", " << tokens << " tokens, " << i;
      }
}

// A thread works on one expert's rows at a time: its scratch is for as many as one expert has, not for all of them.
TEST(Mixture, ScratchOfAThreadIsForTheRowsOfOneExpert) {
  constexpr Index kTokens = 512, kSlots = 8, kExperts = 64, kWidth = 64, kThreads = 16;
  const Tensor x = random_matrix(DType::kF32, kTokens, kWidth, 1), in = random_matrix(DType::kBF16, kWidth, kWidth, 2);
  const Weight w{.values = in};
  const std::vector<FeedForwardRef> experts(kExperts, {&w, &w, &w});
  const Tensor chosen(DType::kI32, {kTokens, kSlots}), weights = random_matrix(DType::kF32, kTokens, kSlots, 3);
  for (Index i = 0; i < kTokens * kSlots; ++i)
    chosen->data<std::int32_t>()[i] = static_cast<std::int32_t>(i % kExperts);
  Context ctx(kThreads);
  mixture(ctx, x, {chosen, weights}, experts, {}, false);
  // Gate and up of a piece of columns for all rows would be more than 4 MiB a thread.
  EXPECT_LT(ctx.workspace.allocated_bytes(), std::size_t{24} << 20);
}

}  // namespace
}  // namespace hadal::ops
