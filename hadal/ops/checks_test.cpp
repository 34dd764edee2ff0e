// Every operation says what does not fit: its name and the shapes that came.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hadal/ops/elementwise.h"
#include "hadal/ops/experts.h"
#include "hadal/ops/latent_entry.h"
#include "hadal/ops/linear.h"
#include "hadal/ops/rope.h"
#include "tests/support/said.h"

namespace hadal::ops {
namespace {

using test::said;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Checks : public ::testing::TestWithParam<Isa> {
 protected:
  Tensor floats(Shape shape) { return Tensor::zeros(DType::kF32, shape); }
  Context ctx{1, GetParam()};
};

TEST_P(Checks, Linear) {
  const Tensor x = floats({2, 6}), w = floats({4, 5}), codes = Tensor::zeros(DType::kF8E4M3, {300, 6}),
               bytes = Tensor::zeros(DType::kU8, {4, 6}), scale = floats({2, 1});
  EXPECT_THAT(said([&] { linear(ctx, x, {.values = w}); }), StartsWith("linear: the weight has shape [4, 5], not 6"));
  EXPECT_THAT(said([&] { linear(ctx, x, {.values = codes}); }), HasSubstr("weights have a scale"));
  EXPECT_THAT(said([&] { linear(ctx, x, {.values = codes, .scale = scale}); }), HasSubstr("[300, 6] from row 0"));
  EXPECT_THAT(said([&] { linear(ctx, x, {.values = bytes}); }), HasSubstr("the weight is U8"));
  EXPECT_THAT(said([&] { linear(ctx, x->reshape({1, 2, 6}), {.values = w}); }), HasSubstr("x has shape [1, 2, 6]"));
}

// A weight that was rearranged for other kernels is an error, not other numbers.
TEST_P(Checks, TheLayoutOfAWeightIsOneThatTheKernelsRead) {
  const Tensor x = floats({1, 8}), w = floats({64, 8}), heads = floats({1, 1, 8}), out = floats({1, 1, 64});
  for (const Layout layout : {Layout::kRows, Layout::kGroups32, Layout::kGroups64, Layout::kDevice}) {
    const bool groups32 = layout == Layout::kGroups32 && ctx.numerics.isa == Isa::kAvx2,
               groups64 = layout == Layout::kGroups64 &&
                          (ctx.numerics.isa == Isa::kAvx512 || ctx.numerics.isa == Isa::kAvx512Bf16);
    const auto expected =
        layout == Layout::kRows || groups32 || groups64 ? HasSubstr("nothing") : HasSubstr(" lies in ");
    Weight weight{.values = w};
    if (layout != Layout::kRows) weight = {.values = {}, .packed = {w, layout}};
    EXPECT_THAT(said([&] { linear(ctx, x, weight); }), expected);
    EXPECT_THAT(said([&] { expand(ctx, heads, weight, 0, 64, out); }), expected);
    const Tensor down = floats({8, 64}), experts = Tensor::zeros(DType::kI32, {1, 1}), weights = floats({1, 1});
    const Weight d{.values = down};
    const FeedForwardRef expert{&weight, &weight, &d};
    EXPECT_THAT(said([&] { mixture(ctx, x, {experts, weights}, {&expert, 1}, {}, false); }), expected);
  }
  EXPECT_THAT(said([&] { absorb(ctx, heads, {.values = {}, .packed = {w, Layout::kGroups32}}, 0, 64); }),
              StartsWith("absorb: the weight [64, 8] lies in groups of 32 rows, rows are read"));
  // Where there are rows too, they serve.
  EXPECT_EQ(said([&] { linear(ctx, x, {.values = w, .packed = {w, Layout::kDevice}}); }), "nothing");
}

// Nor is a tensor on another device ever touched.
TEST_P(Checks, TensorsAreOnTheDeviceThatComputes) {
  const Tensor x = floats({1, 8}), w = floats({64, 8});
  const Device gpu{Device::Kind::kGpu, 1};
  const TensorRef far(x->raw(), DType::kF32, {1, 8}, gpu), far_w(w->raw(), DType::kF32, {64, 8}, gpu);
  EXPECT_THAT(said([&] { linear(ctx, far, {.values = w}); }), HasSubstr("[1, 8] is on gpu 1, cpu cannot reach"));
  EXPECT_THAT(said([&] { linear(ctx, x, {.values = far_w}); }), HasSubstr("[64, 8] is on gpu 1"));
  EXPECT_THAT(said([&] { add_in_place(ctx, far, x); }), HasSubstr("is on gpu 1"));
  EXPECT_THAT(said([&] { swiglu(ctx, x, far); }), HasSubstr("is on gpu 1"));
  EXPECT_THAT(said([&] { rms_norm(ctx, x, far[0], 1e-6); }), HasSubstr("is on gpu 1"));
}

TEST_P(Checks, AbsorbAndExpand) {
  const Tensor q = floats({2, 3, 4}), latent = floats({2, 3, 8}), w = floats({24, 8});
  EXPECT_EQ(absorb(ctx, q, {.values = w}, 0, 8).shape(), Shape({2, 3, 8}));
  expand(ctx, latent, {.values = w}, 4, 8, q);
  EXPECT_THAT(said([&] { absorb(ctx, q, {.values = w}, 5, 8); }),
              StartsWith("absorb: 3 heads of 4 rows at 5, 8 apart, do not fit the weight [24, 8]"));
  EXPECT_THAT(said([&] { absorb(ctx, q->reshape({6, 4}), {.values = w}, 0, 8); }), HasSubstr("x has shape [6, 4]"));
  EXPECT_THAT(said([&] { expand(ctx, latent, {.values = w}, 5, 8, q); }), StartsWith("expand: 3 heads of 4 rows at 5"));
  EXPECT_THAT(said([&] { expand(ctx, q, {.values = w}, 4, 8, q); }), HasSubstr("has shape [24, 8], not 4 columns"));
  EXPECT_THAT(said([&] { expand(ctx, latent, {.values = w}, 4, 8, latent->rows(0, 1)); }), HasSubstr("y [1, 3, 8]"));
}

TEST_P(Checks, Mixture) {
  const Tensor x = floats({2, 6}), up = floats({4, 6}), down = floats({6, 4}), narrow = floats({3, 6}),
               experts = Tensor::zeros(DType::kI32, {2, 1}), weights = floats({2, 1}), more = floats({2, 2});
  const Weight u{.values = up}, d{.values = down}, n{.values = narrow};
  const FeedForwardRef good{&u, &u, &d}, bad{&u, &n, &d}, turned{&u, &u, &u};
  const auto run = [&](const Selection& chosen, const FeedForwardRef& expert, const FeedForwardRef& shared) {
    return said([&] { mixture(ctx, x, chosen, {&expert, 1}, shared, false); });
  };
  const Selection chosen{experts, weights};
  EXPECT_EQ(run(chosen, good, good), "nothing");
  EXPECT_THAT(run({experts, more}, good, {}), StartsWith("mixture: x [2, 6], experts [2, 1] and weights [2, 2]"));
  EXPECT_THAT(run(chosen, {}, {}), StartsWith("mixture: expert 0 was chosen and has no weights"));
  EXPECT_THAT(run(chosen, bad, {}), StartsWith("mixture: expert 0 has gate_proj [4, 6], up_proj [3, 6]"));
  EXPECT_THAT(run(chosen, good, turned), StartsWith("mixture: the shared expert's down_proj has shape [4, 6], not 4"));
  experts->data<std::int32_t>()[1] = 1;
  EXPECT_THAT(run(chosen, good, {}), HasSubstr("expert 1 of 1"));
}

TEST_P(Checks, ExpertsAndRows) {
  const Tensor x = floats({2, 6}), y = floats({2, 5}), weights = floats({2, 2}), bias = floats({5});
  EXPECT_THAT(said([&] { combine_experts(ctx, x, {}, weights); }), StartsWith("combine_experts: outputs [2, 6]"));
  EXPECT_THAT(said([&] { select_experts(ctx, x, bias, {.num_experts_per_tok = 1}); }), HasSubstr("bias [5]"));
  EXPECT_THAT(said([&] { select_experts(ctx, x, {}, {.num_experts_per_tok = 7}); }), HasSubstr("7 of 6 experts"));
  EXPECT_THAT(said([&] { rms_norm(ctx, x, bias, 1e-6); }), StartsWith("rms_norm: x has shape [2, 6], the weight [5]"));
  EXPECT_THAT(said([&] { swiglu(ctx, x, y); }), StartsWith("swiglu: shapes are [2, 6] and [2, 5]"));
  EXPECT_THAT(said([&] { add_in_place(ctx, x, y); }), StartsWith("add: shapes"));
  EXPECT_THAT(said([&] { copy_rows(ctx, x, y); }), StartsWith("copy: shapes"));
  EXPECT_THAT(said([&] { concatenate(ctx, x, bias); }), StartsWith("concatenate: shapes"));
  const Index last[] = {1}, behind[] = {2};
  EXPECT_EQ(gather_rows(ctx, x, last).shape(), Shape({1, 6}));
  EXPECT_THAT(said([&] { gather_rows(ctx, x, behind); }), StartsWith("gather_rows: row 2 of 2"));
  EXPECT_THAT(said([&] { gather_rows(ctx, bias, last); }), StartsWith("gather_rows: x has shape [5]"));
  const std::int32_t id[] = {2};
  EXPECT_THAT(said([&] { embedding(ctx, {.values = x}, id); }), HasSubstr("token id 2 is not below vocab_size 2"));
  const Tensor words = Tensor::zeros(DType::kI64, {2, 6});
  EXPECT_THAT(said([&] { to_float(ctx, words, x); }), HasSubstr("to_float: a tensor is I64"));
  EXPECT_THAT(said([&] { from_float(ctx, x, words); }), HasSubstr("from_float: the destination is I64"));
  const Tensor stored = Tensor::zeros(DType::kU8, {2, 20});
  EXPECT_THAT(said([&] { pack_entries(ctx, {.latent = 4, .rope = 2}, x, stored); }),
              StartsWith("pack_entries: entries [2, 6] and [2, 20] bytes"));
}

INSTANTIATE_TEST_SUITE_P(Isas, Checks, ::testing::Values(Isa::kRef, best_isa()),
                         [](const auto& p) { return p.index == 0 ? "reference" : "fast"; });

}  // namespace
}  // namespace hadal::ops
