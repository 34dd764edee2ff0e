// The optimiser's fast kernels against those of the reference.
#include "hadal/kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/kernels/training.h"

namespace hadal::kernels {
namespace optimizer_test {
namespace {

constexpr Index kSizes[] = {1, 7, 8, 9, 31, 1000, kOptimizerPiece, 3 * kOptimizerPiece + 5};

std::vector<float> values(Index n, double size, std::uint64_t seed) {
  const Philox random(seed, 3);
  std::vector<float> v;
  for (Index i = 0; i < n; ++i)
    v.push_back(static_cast<float>((random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1) * size));
  return v;
}
std::vector<bf16> rounded(const std::vector<float>& from) {
  std::vector<bf16> v;
  for (const float x : from) v.push_back(float_to_bf16(x));
  return v;
}
float as_float(float x) {
  return x;
}
float as_float(bf16 x) {
  return bf16_to_float(x);
}

template <class T>
void expect_near(const std::vector<T>& got, const std::vector<T>& expected, double relative) {
  double largest = 1e-30;
  for (const T x : expected) largest = std::max(largest, std::abs(double{as_float(x)}));
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(as_float(got[i]), as_float(expected[i]), relative * largest) << i << " of " << got.size();
}
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

const TrainingKernels<float>& of(const Context& ctx) {
  return training_kernels<float>(ctx);
}

class OptimizerKernels : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!isa_supported(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  }
  Context ref{2, Isa::kRef}, fast{2, Isa::kAvx2}, one{1, Isa::kAvx2};
};

// Of parts of all sizes in one call, as optimisers make them.
template <class Moment>
struct AdamWState {
  AdamWState() {
    for (const Index n : kSizes) {
      const auto seed = static_cast<std::uint64_t>(n);
      grad.push_back(values(n, 1e-2, seed));
      value.push_back(values(n, 1, seed + 1));
      std::vector<float> m = values(n, 1e-2, seed + 2), v = values(n, 1e-4, seed + 3);
      for (float& x : v) x = std::abs(x);
      if constexpr (std::is_same_v<Moment, float>)
        first.push_back(m), second.push_back(v);
      else
        first.push_back(rounded(m)), second.push_back(rounded(v));
    }
  }
  void step(Context& ctx, const AdamWFactors& f) {
    std::vector<AdamWPart<float>> parts;
    for (std::size_t i = 0; i < grad.size(); ++i)
      parts.push_back({grad[i].data(), first[i].data(), second[i].data(), value[i].data(),
                       static_cast<Index>(grad[i].size()), i % 2 ? 1 : 0.97});
    of(ctx).adamw(ctx, f, std::is_same_v<Moment, float> ? DType::kF32 : DType::kBF16, parts);
  }
  std::vector<std::vector<float>> grad, value;
  std::vector<std::vector<Moment>> first, second;
};
constexpr AdamWFactors kFactors{
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .correction = 0.02, .root = 1.7, .gradient = 0.6};

TEST_F(OptimizerKernels, AdamWAgreesWithTheReference) {
  AdamWState<float> a, b, c;
  a.step(ref, kFactors);
  b.step(fast, kFactors);
  c.step(one, kFactors);
  for (std::size_t i = 0; i < a.grad.size(); ++i) {
    expect_near(b.first[i], a.first[i], 1e-6);
    expect_near(b.second[i], a.second[i], 1e-6);
    expect_near(b.value[i], a.value[i], 1e-6);
    EXPECT_TRUE(same(b.first[i], c.first[i]) && same(b.second[i], c.second[i]) && same(b.value[i], c.value[i]));
  }
}

TEST_F(OptimizerKernels, AdamWWithBf16MomentsAgreesWithTheReference) {
  AdamWState<bf16> a, b, c;
  a.step(ref, kFactors);
  b.step(fast, kFactors);
  c.step(one, kFactors);
  for (std::size_t i = 0; i < a.grad.size(); ++i) {
    // Sums that float32 rounds another way may be rounded another way again: a unit in the last of 8 bits.
    expect_near(b.first[i], a.first[i], 0x1p-7);
    expect_near(b.second[i], a.second[i], 0x1p-7);
    expect_near(b.value[i], a.value[i], 1e-6);
    EXPECT_TRUE(same(b.first[i], c.first[i]) && same(b.second[i], c.second[i]) && same(b.value[i], c.value[i]));
  }
}

TEST_F(OptimizerKernels, Bf16MomentsAreRoundedToNearestEven) {
  // 1 + k 2^-9: ties at odd multiples of 2^-8; and what is no number.
  std::vector<float> grad;
  for (int k = 0; k < 64; ++k) grad.push_back(1 + static_cast<float>(k) * 0x1p-9f);
  for (const float x : {0.0f, -0.0f, 3.3e38f, -3.4028235e38f, std::numeric_limits<float>::infinity(),
                        std::bit_cast<float>(0x7FFFFFFFu), std::bit_cast<float>(0xFF800001u), 1e-40f, -2.5f})
    grad.push_back(x);
  std::vector<bf16> momentum(grad.size(), bf16{0});
  std::vector<float> update(grad.size());
  const MomentumPart<float> part{grad.data(), momentum.data(), update.data(), static_cast<Index>(grad.size())};
  of(fast).momentum(fast, {.mu = 0, .gradient = 1, .nesterov = false}, DType::kBF16, std::span(&part, 1));
  for (std::size_t i = 0; i < grad.size(); ++i) {
    const bf16 expected = float_to_bf16(grad[i] + 0.0f);
    if (std::isnan(grad[i]))
      EXPECT_TRUE(std::isnan(bf16_to_float(momentum[i]))) << i;
    else
      EXPECT_EQ(momentum[i].bits, expected.bits) << i << ": " << grad[i];
  }
}

TEST_F(OptimizerKernels, MomentumAgreesWithTheReference) {
  for (const bool nesterov : {false, true})
    for (const Index n : kSizes) {
      const std::vector<float> grad = values(n, 1, 1), before = values(n, 1, 2);
      const auto run = [&](Context& ctx, auto momentum, DType dtype) {
        std::vector<float> update(static_cast<std::size_t>(n));
        const MomentumPart<float> part{grad.data(), momentum.data(), update.data(), n};
        of(ctx).momentum(ctx, {.mu = 0.95, .gradient = 0.3, .nesterov = nesterov}, dtype, std::span(&part, 1));
        return std::pair(momentum, update);
      };
      const auto a = run(ref, before, DType::kF32), b = run(fast, before, DType::kF32);
      expect_near(b.first, a.first, 1e-6);
      expect_near(b.second, a.second, 1e-6);
      EXPECT_TRUE(same(b.second, run(one, before, DType::kF32).second));
      const auto c = run(ref, rounded(before), DType::kBF16), d = run(fast, rounded(before), DType::kBF16);
      expect_near(d.first, c.first, 0x1p-7);
      expect_near(d.second, c.second, 1e-6);
    }
}

TEST_F(OptimizerKernels, BlendAgreesWithTheReference) {
  for (const Index side : {1, 3, 8, 37, 200}) {
    const Index n = side * side;
    const std::vector<float> x = values(n, 1, 1), y = values(n, 1, 2);
    const auto run = [&](Context& ctx, const float* from, double of_x, double of_y, double diagonal) {
      std::vector<float> to = y;
      const BlendPart<float> part{from, of_x, to.data(), of_y, n, diagonal};
      of(ctx).blend(ctx, std::span(&part, 1));
      return to;
    };
    expect_near(run(fast, x.data(), 0.3, -0.7, 0), run(ref, x.data(), 0.3, -0.7, 0), 1e-6);
    expect_near(run(fast, nullptr, 0, -0.7, 0), run(ref, nullptr, 0, -0.7, 0), 1e-6);
    expect_near(run(fast, x.data(), 2, 1, 3.5), run(ref, x.data(), 2, 1, 3.5), 1e-6);
    const std::vector<float> with = run(fast, x.data(), 2, 1, 3.5), without = run(fast, x.data(), 2, 1, 0);
    for (Index i = 0; i < n; ++i)
      ASSERT_EQ(with[static_cast<std::size_t>(i)],
                without[static_cast<std::size_t>(i)] + (i / side == i % side ? 3.5f : 0.0f))
          << i << " of " << side;
  }
}

TEST_F(OptimizerKernels, BlendDoesNotReadWhatItReplaces) {
  const std::vector<float> x = values(21, 1, 1);
  for (Context* ctx : {&ref, &fast}) {
    std::vector<float> y(21, std::numeric_limits<float>::quiet_NaN());
    const BlendPart<float> part{x.data(), 1, y.data(), 0, 21};
    of(*ctx).blend(*ctx, std::span(&part, 1));
    EXPECT_EQ(x, y);
  }
}

// In double, in one order: the same bits as the reference's.
TEST_F(OptimizerKernels, SumsOfSquaresAreTheReferences) {
  std::vector<std::vector<float>> all;
  std::vector<SquaresPart<float>> parts;
  for (const Index n : kSizes) all.push_back(values(n, 3, static_cast<std::uint64_t>(n)));
  for (const auto& x : all) parts.push_back({x.data(), static_cast<Index>(x.size())});
  std::vector<double> a(all.size()), b(all.size()), c(all.size());
  of(ref).sums_of_squares(ref, parts, a.data());
  of(fast).sums_of_squares(fast, parts, b.data());
  of(one).sums_of_squares(one, parts, c.data());
  EXPECT_EQ(a, b);
  EXPECT_EQ(a, c);
  for (std::size_t i = 0; i < all.size(); ++i) {
    double sum = 0;
    for (const float x : all[i]) sum += double{x} * double{x};
    EXPECT_NEAR(a[i], sum, 1e-12 * sum);
  }
}

}  // namespace
}  // namespace optimizer_test
}  // namespace hadal::kernels
