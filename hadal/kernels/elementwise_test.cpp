#include "hadal/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "hadal/core/context.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"

namespace hadal::kernels {
namespace {

class Avx2 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!isa_supported(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  }
  static std::vector<float> values(Index n, double spread, std::uint64_t seed) {
    const Philox random(seed, 3);
    std::vector<float> v;
    for (Index i = 0; i < n; ++i)
      v.push_back(static_cast<float>((random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1) * spread));
    return v;
  }
  static void expect_close(const std::vector<float>& got, const std::vector<float>& expected, double relative) {
    double largest = 0;
    for (float e : expected) largest = std::max(largest, std::abs(double{e}));
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], relative * std::max(largest, 1e-30)) << i;
  }
};

using Elementwise = Avx2;

TEST_F(Elementwise, RmsNormAgreesWithTheReference) {
  for (const Index n : {1, 3, 8, 9, 128, 1000, 7168}) {
    const auto x = values(n, 3, 1), w = values(n, 1, 2);
    std::vector<float> got(static_cast<std::size_t>(n)), expected(got);
    avx2::rms_norm(x.data(), w.data(), got.data(), n, 1e-6f);
    ref::rms_norm(x.data(), w.data(), expected.data(), n, 1e-6f);
    expect_close(got, expected, 1e-6);
  }
}

TEST_F(Elementwise, RmsNormGivesTheReciprocalRoot) {
  const std::vector<float> x = {3, -4, 0, 1.5f, 2, -1, 0.25f, 7, 5}, weight(9, 2.0f);
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  const double expected = 1 / std::sqrt(squares / 9 + 1e-3);
  std::vector<float> y(9);
  EXPECT_NEAR(ref::rms_norm(x.data(), weight.data(), y.data(), 9, 1e-3f), expected, 1e-7);
  EXPECT_NEAR(avx2::rms_norm(x.data(), weight.data(), y.data(), 9, 1e-3f), expected, 1e-7);
}

TEST_F(Elementwise, SwigluAgreesAlsoFarOut) {
  for (const double spread : {0.1, 5.0, 100.0, 1000.0}) {
    const auto g = values(333, spread, 4), u = values(333, 2, 5);
    std::vector<float> got(333), expected(333);
    avx2::swiglu(g.data(), u.data(), got.data(), 333);
    ref::swiglu(g.data(), u.data(), expected.data(), 333);
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], 5e-7 * std::abs(expected[i]) + 1e-36) << g[i];
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float one = 1, out = 0;
  avx2::swiglu(&nan, &one, &out, 1);
  EXPECT_TRUE(std::isnan(out));
}

TEST_F(Elementwise, AxpyDoesNotDependOnWhereARowIsCut) {
  const auto x = values(101, 1, 6);
  auto whole = values(101, 1, 7), parts = whole;
  avx2::axpy(0.3f, x.data(), whole.data(), 101);
  avx2::axpy(0.3f, x.data(), parts.data(), 37);
  avx2::axpy(0.3f, x.data() + 37, parts.data() + 37, 64);
  EXPECT_EQ(std::memcmp(whole.data(), parts.data(), 101 * 4), 0);
}

TEST_F(Elementwise, ConversionsToFloatAreExact) {
  std::vector<std::uint16_t> halves;
  for (std::uint32_t c = 0; c < 0x10000; c += 7) halves.push_back(static_cast<std::uint16_t>(c));
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF8E4M3}) {
    const auto n = static_cast<Index>(halves.size());
    std::vector<float> got(halves.size()), expected(halves.size());
    avx2::to_float(halves.data(), dtype, got.data(), n);
    ref::to_float(halves.data(), dtype, expected.data(), n);
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_TRUE(got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]))) << i;
  }
}

}  // namespace
}  // namespace hadal::kernels
