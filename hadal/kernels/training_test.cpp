// The fast kernels of training beside the reference's, and products beside the order of sums that they promise.
#include "hadal/kernels/training.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/kernels/cpu/products.h"

namespace hadal::kernels {
namespace training_test {
namespace {

class OnEveryIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU lacks " << isa_name(GetParam());
  }
  Context fast{2, GetParam()};
  Context ref{1, Isa::kRef};
  const TrainingKernels<float>& of(const Context& ctx) { return training_kernels<float>(ctx); }
};
INSTANTIATE_TEST_SUITE_P(Isas, OnEveryIsa, testing::Values(Isa::kAvx2, Isa::kAvx512));

std::vector<float> numbers(Index n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) x = normal(random);
  return v;
}
View<float, 2> matrix(std::vector<float>& v, Index rows, Index columns) {
  return {v.data(), {rows, columns}, {columns, 1}};
}
View<const float, 2> matrix(const std::vector<float>& v, Index rows, Index columns) {
  return {v.data(), {rows, columns}, {columns, 1}};
}
View<const float, 3> heads(const std::vector<float>& v, Index rows, Index count, Index columns) {
  return {v.data(), {rows, count, columns}, {count * columns, columns, 1}};
}
View<float, 3> heads(std::vector<float>& v, Index rows, Index count, Index columns) {
  return {v.data(), {rows, count, columns}, {count * columns, columns, 1}};
}
void expect_near(const std::vector<float>& a, const std::vector<float>& b, double tolerance, const char* what) {
  double scale = 1e-6;
  for (const float x : b) scale = std::max(scale, std::abs(double{x}));
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance * scale) << what << " " << i;
}

// One chain of fused multiply-adds over each 128 of k, then the sums of these.
float promised(const Product<float>& p, Index i, Index j) {
  const auto factor = [&p](float x) { return p.to_bf16 ? bf16_to_float(float_to_bf16(x)) : x; };
  float total = 0;
  for (Index begin = 0; begin < p.k; begin += 128) {
    float sum = 0;
    for (Index l = begin; l < std::min(begin + 128, p.k); ++l) {
      const float a = p.a_row == 1 ? p.a_line(l)[i] : p.a_line(i)[l],
                  b = p.b_column == 1 ? p.b_line(l)[j] : p.b_line(j)[l];
      sum = std::fma(factor(a), factor(b), sum);
    }
    total += sum;
  }
  return total;
}

struct Size {
  Index m, n, k;
};

// Every orientation, with and without lines, added and not; sizes around the edges of tiles, panels, blocks and pieces.
TEST_P(OnEveryIsa, ProductsHaveThePromisedSums) {
  const Size sizes[] = {{1, 1, 1},    {6, 16, 128},  {7, 17, 129}, {5, 3, 2},      {12, 32, 256},
                        {13, 33, 31}, {200, 40, 20}, {40, 300, 7}, {193, 257, 130}};
  for (const Size& s : sizes)
    for (int kind = 0; kind < 32; ++kind) {
      const bool a_across = kind & 1, b_across = kind & 2, lines = kind & 4, add = kind & 8, to_bf16 = kind & 16;
      const std::vector<float> a = numbers(2 * s.m * s.k + 64, 1), b = numbers(2 * s.n * s.k + 64, 2);
      std::vector<float> y = numbers(s.m * (s.n + 3), 3);
      const std::vector<float> before = y;
      std::vector<Index> a_lines, b_lines;
      for (Index i = 0; i < std::max({s.m, s.n, s.k}); ++i) a_lines.push_back((i * 5) % (2 * (a_across ? s.k : s.m)));
      for (Index i = 0; i < std::max({s.m, s.n, s.k}); ++i) b_lines.push_back((i * 3) % (2 * (b_across ? s.n : s.k)));
      Product<float> p;
      p.a = a.data();
      p.b = b.data();
      p.a_row = a_across ? 1 : s.k;
      p.a_column = a_across ? s.m : 1;
      p.b_row = b_across ? 1 : s.n;
      p.b_column = b_across ? s.k : 1;
      if (lines) p.a_lines = a_lines.data(), p.b_lines = b_lines.data();
      p.y = y.data();
      p.y_stride = s.n + 3;
      p.m = s.m;
      p.n = s.n;
      p.k = s.k;
      p.add = add;
      p.to_bf16 = to_bf16;
      of(fast).products(fast, std::span(&p, 1));
      for (Index i = 0; i < s.m; ++i)
        for (Index j = 0; j < s.n + 3; ++j) {
          const auto at = static_cast<std::size_t>(i * (s.n + 3) + j);
          const float sum = j < s.n ? promised(p, i, j) : 0;
          const float expected = j >= s.n ? before[at] : add ? before[at] + sum : sum;
          ASSERT_EQ(y[at], expected) << s.m << " x " << s.n << " x " << s.k << ", kind " << kind << ", " << i << ", "
                                     << j;
        }
    }
}

TEST_P(OnEveryIsa, AttentionBackward) {
  constexpr Index kTokens = 150, kHeads = 2, kNope = 12, kRope = 6, kV = 10, kDepth = kNope + kRope;
  const std::vector<RowRange> sequences = {{0, 70}, {70, 71}, {71, 150}};
  const std::vector<float> q = numbers(kTokens * kHeads * kDepth, 1), kv = numbers(kTokens * kHeads * (kNope + kV), 2),
                           k_pe = numbers(kTokens * kRope, 3), d_out = numbers(kTokens * kHeads * kV, 4);
  const CausalAttention<float> args{heads(q, kTokens, kHeads, kDepth), heads(kv, kTokens, kHeads, kNope + kV),
                                    matrix(k_pe, kTokens, kRope), 0.3f, sequences};
  std::vector<float> out(d_out.size()), lse(kTokens * kHeads);
  of(ref).attend(ref, args, heads(out, kTokens, kHeads, kV), matrix(lse, kTokens, kHeads));
  std::vector<float> results[2][3];
  for (int i = 0; i < 2; ++i) {
    Context& ctx = i ? fast : ref;
    std::vector<float>(&r)[3] = results[i];
    r[0].resize(q.size());
    r[1].resize(kv.size());
    r[2].resize(static_cast<std::size_t>(kTokens * kHeads * kRope));
    of(ctx).attend_backward(ctx, args,
                            {.out = heads(std::as_const(out), kTokens, kHeads, kV),
                             .d_out = heads(d_out, kTokens, kHeads, kV),
                             .lse = matrix(std::as_const(lse), kTokens, kHeads),
                             .d_q = heads(r[0], kTokens, kHeads, kDepth),
                             .d_kv = heads(r[1], kTokens, kHeads, kNope + kV),
                             .d_k_pe = heads(r[2], kTokens, kHeads, kRope)});
  }
  expect_near(results[1][0], results[0][0], 1e-5, "d_q");
  expect_near(results[1][1], results[0][1], 1e-5, "d_kv");
  expect_near(results[1][2], results[0][2], 1e-5, "d_k_pe");
}

TEST_P(OnEveryIsa, Rows) {
  constexpr Index kRows = 9, kWidth = 43;
  const std::vector<float> x = numbers(kRows * kWidth, 1), dy = numbers(kRows * kWidth, 2), w = numbers(kWidth, 3),
                           up = numbers(kRows * kWidth, 4), weight = numbers(kRows, 5);
  std::vector<float> inverse(kRows);
  for (std::size_t i = 0; i < inverse.size(); ++i) inverse[i] = 0.5f + 0.1f * static_cast<float>(i);
  std::vector<float> dx[2], dw[2], dgate[2], dup[2], inner[2], dweight[2], scaled[2], sums[2];
  for (int i = 0; i < 2; ++i) {
    Context& ctx = i ? fast : ref;
    for (auto* v : {&dx[i], &dgate[i], &dup[i], &inner[i]}) v->resize(x.size());
    dw[i] = numbers(kWidth, 6);
    dweight[i].resize(kRows);
    of(ctx).rms_norm_backward(ctx, matrix(dy, kRows, kWidth), matrix(x, kRows, kWidth), w.data(), inverse.data(),
                              matrix(dx[i], kRows, kWidth));
    of(ctx).add_rms_norm_weight(ctx, matrix(dy, kRows, kWidth), matrix(x, kRows, kWidth), inverse.data(), dw[i].data());
    of(ctx).swiglu_backward(ctx, {.gate = matrix(x, kRows, kWidth),
                                  .up = matrix(up, kRows, kWidth),
                                  .d_inner = matrix(dy, kRows, kWidth),
                                  .weight = weight.data(),
                                  .d_gate = matrix(dgate[i], kRows, kWidth),
                                  .d_up = matrix(dup[i], kRows, kWidth),
                                  .weighted_inner = matrix(inner[i], kRows, kWidth),
                                  .d_weight = dweight[i].data()});
    scaled[i] = x;
    of(ctx).add(ctx, matrix(up, kRows, kWidth), matrix(scaled[i], kRows, kWidth));
    sums[i].resize(3 * kWidth);
    of(ctx).sum_heads(ctx, heads(x, 3, 3, kWidth), matrix(sums[i], 3, kWidth));
  }
  expect_near(dx[1], dx[0], 1e-6, "dx");
  expect_near(dw[1], dw[0], 1e-6, "dw");
  expect_near(dgate[1], dgate[0], 1e-6, "d_gate");
  expect_near(dup[1], dup[0], 1e-6, "d_up");
  expect_near(inner[1], inner[0], 1e-6, "inner");
  expect_near(dweight[1], dweight[0], 1e-6, "d_weight");
  expect_near(scaled[1], scaled[0], 1e-6, "add");
  expect_near(sums[1], sums[0], 1e-6, "sum_heads");
}

TEST_P(OnEveryIsa, CrossEntropy) {
  for (const Index vocab : {3, 8, 37, 128}) {
    const std::vector<std::int32_t> targets = {0, -100, static_cast<std::int32_t>(vocab - 1), 1};
    std::vector<float> logits[2] = {numbers(4 * vocab, 1), numbers(4 * vocab, 1)};
    logits[0][2] = logits[1][2] = 40;  // one that is nearly certain
    std::vector<double> losses[2] = {std::vector<double>(4), std::vector<double>(4)};
    for (int i = 0; i < 2; ++i) {
      Context& ctx = i ? fast : ref;
      of(ctx).cross_entropy(ctx, matrix(logits[i], 4, vocab), targets, 0.25, losses[i].data());
    }
    expect_near(logits[1], logits[0], 1e-6, "d_logits");
    for (int t = 0; t < 4; ++t)
      EXPECT_NEAR(losses[1][static_cast<std::size_t>(t)], losses[0][static_cast<std::size_t>(t)], 1e-5);
  }
}

TEST_P(OnEveryIsa, TheGate) {
  constexpr Index kTokens = 24, kExperts = 20, kChosen = 4;
  const std::vector<RowRange> sequences = {{0, 10}, {10, 24}};
  const std::vector<float> logits = numbers(kTokens * kExperts, 1), d_weights = numbers(kTokens * kChosen, 2);
  for (const bool normalised : {true, false}) {
    const GateArgs args{.n_routed_experts = kExperts,
                        .num_experts_per_tok = kChosen,
                        .n_group = 4,
                        .topk_group = 2,
                        .group_best = 2,
                        .norm_topk_prob = normalised,
                        .routed_scaling_factor = 2.5};
    std::vector<std::int32_t> experts(kTokens * kChosen);
    std::vector<float> weights(kTokens * kChosen), load[2], d_logits[2];
    of(ref).gate(ref, args, matrix(logits, kTokens, kExperts), {experts.data(), {kTokens, kChosen}, {kChosen, 1}},
                 matrix(weights, kTokens, kChosen));
    double loss[2];
    for (int i = 0; i < 2; ++i) {
      Context& ctx = i ? fast : ref;
      load[i].resize(2 * kExperts);
      d_logits[i].resize(logits.size());
      loss[i] =
          of(ctx).balance(ctx, args, {matrix(logits, kTokens, kExperts), sequences, matrix(load[i], 2, kExperts)});
      of(ctx).gate_backward(ctx, args,
                            {.logits = matrix(logits, kTokens, kExperts),
                             .experts = {experts.data(), {kTokens, kChosen}, {kChosen, 1}},
                             .d_weights = matrix(d_weights, kTokens, kChosen),
                             .load = matrix(std::as_const(load[i]), 2, kExperts),
                             .sequences = sequences,
                             .balance = 0.6,
                             .d_logits = matrix(d_logits[i], kTokens, kExperts)});
    }
    EXPECT_NEAR(loss[1], loss[0], 1e-5);
    expect_near(load[1], load[0], 1e-6, "load");
    expect_near(d_logits[1], d_logits[0], 1e-5, "d_logits");
  }
}

}  // namespace
}  // namespace training_test
}  // namespace hadal::kernels
