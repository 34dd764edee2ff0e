// Float32 activations in fixed point, against a scalar model in 64-bit integers: all bits. That the results are close
// to the exact products is among the tests of linear_test.
#include <gtest/gtest.h>

#include "hadal/core/context.h"
#include "hadal/kernels/test_products.h"

namespace hadal::kernels {
namespace fixed_point_test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// AVX512-VNNI: 23 bits, AVX2: 16.
std::vector<std::tuple<Format, Isa>> integer_products() {
  std::vector<std::tuple<Format, Isa>> all;
  for (const Format& f : kFormats) {
    if (f.dtype == DType::kI8 || f.dtype == DType::kI32) all.emplace_back(f, Isa::kAvx512Bf16);
    if (f.dtype == DType::kI32) all.emplace_back(f, Isa::kAvx2);
  }
  return all;
}

// --- The model ---

FixedPoint to_fixed_point(Isa isa, const std::vector<float>& x) {
  if (isa == Isa::kAvx2) return to_words(x);
  FixedPoint f{std::vector<std::int64_t>(x.size()), kPoison};
  const auto largest = largest_magnitude(x);
  if (!largest) return f;
  int exponent;
  // Three signed digits end a little below 2^23; from 2^128 / 1.0078125 on one more bit goes.
  std::frexp(std::min(double{*largest} * 1.0078125, 0x1p128), &exponent);
  f.unit = std::ldexp(1.0f, exponent - 23);
  for (std::size_t i = 0; i < x.size(); ++i)
    f.numbers[i] = static_cast<std::int64_t>(std::nearbyint(double{x[i]} / f.unit));
  return f;
}

int weight_code(const LinearArgs& a, Index row, Index column) {
  if (a.w_dtype == DType::kI8) return static_cast<const std::int8_t*>(a.w)[row * a.w_stride + column];
  std::uint32_t eight;
  std::memcpy(&eight, static_cast<const std::uint8_t*>(a.w) + (row * a.w_stride + column / 8) * 4, 4);
  const Index group = (a.w_first_row + row) / a.scale_rows * a.w_scale_stride + column / a.scale_columns;
  return static_cast<int>(eight >> (4 * (column % 8)) & 15) - (a.w_zero ? a.w_zero[group] : 8);
}

float weight_scale(const LinearArgs& a, Index row, Index column) {
  const Index group = (a.w_first_row + row) / a.scale_rows * a.w_scale_stride + column / a.scale_columns;
  if (a.w_scale_dtype == DType::kBF16) return bf16_to_float(static_cast<const bf16*>(a.w_scale)[group]);
  if (a.w_scale_dtype == DType::kF16) return f16_to_float(static_cast<const f16*>(a.w_scale)[group]);
  return static_cast<const float*>(a.w_scale)[group];
}

// The sum as the kernels end it: of words one number, else digits of base 256 from -128 on, each with its own exact
// sum.
float sum_of(Isa isa, const FixedPoint& x, const LinearArgs& a, Index row, Index begin) {
  if (isa == Isa::kAvx2) {
    std::int64_t sum = 0;
    for (std::size_t c = 0; c < x.numbers.size(); ++c)
      sum += x.numbers[c] * weight_code(a, row, begin + static_cast<Index>(c));
    return static_cast<float>(sum);
  }
  std::int64_t sums[3] = {};
  for (std::size_t c = 0; c < x.numbers.size(); ++c) {
    std::int64_t number = x.numbers[c];
    for (std::int64_t& sum : sums) {
      const std::int64_t digit = ((number + 128) & 255) - 128;
      sum += digit * weight_code(a, row, begin + static_cast<Index>(c));
      number = (number - digit) / 256;
    }
    EXPECT_EQ(number, 0) << "more than three digits";
  }
  return std::fma(static_cast<float>(sums[2] * 256 + sums[1]), 256.0f, static_cast<float>(sums[0]));
}

std::vector<float> model(Isa isa, const Problem& p) {
  std::vector<float> y;
  const LinearArgs a = p.args(y);
  std::fill(y.begin(), y.end(), 0.0f);
  const Index block = std::min<Index>(a.scale_columns, 128);
  for (Index begin = 0; begin < a.k; begin += block)
    for (Index i = 0; i < a.m; ++i) {
      const float* row = a.x + i * a.x_stride;
      const FixedPoint x = to_fixed_point(isa, {row + begin, row + std::min(begin + block, a.k)});
      for (Index j = 0; j < a.n; ++j) {
        float& total = y[static_cast<std::size_t>(i * a.n + j)];
        total = std::fma(sum_of(isa, x, a, j, begin), weight_scale(a, j, begin) * x.unit, total);
      }
    }
  return y;
}

// -1, or the first element whose bits differ; NaN is NaN.
Index first_difference(const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], 4) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]))) return static_cast<Index>(i);
  return -1;
}

class FixedPointProducts : public ::testing::TestWithParam<std::tuple<Format, Isa>> {
 protected:
  void SetUp() override {
    if (!isa_supported(isa)) GTEST_SKIP() << "this CPU has no " << isa_name(isa);
  }
  Format format = std::get<0>(GetParam());
  Isa isa = std::get<1>(GetParam());
};

TEST_P(FixedPointProducts, HaveTheModelsBitsForEveryShape) {
  std::uint64_t seed = 0;
  for (const Index m : {1, 2, 3, 4, 5, 6, 9, 14, 26, 31})
    for (const Index n : {1, 16, 33, 70})
      for (const Index k : {1, 5, 7, 32, 33, 100, 128, 129, 300, 1100}) {
        ++seed;
        const Problem p(format, m, n, k, static_cast<Index>(seed % 130), seed);
        ASSERT_EQ(first_difference(run(isa, p), model(isa, p)), -1) << m << " " << n << " " << k;
      }
}

TEST_P(FixedPointProducts, LargestNumbersDoNotSaturate) {
  // Around where a bit more is needed, at the ends of a binade, and with every weight at its limits.
  for (const float x : {1.0f, 1.9843f, 1.9844f, 1.98446f, 1.9921f, 1.99993f, 1.99996f, 1.99999f, 2 - 0x1p-23f,
                        0x1.fffffep127f, 0x1.fbp127f})
    for (const int weight : {0x00, 0x7F, 0x80, 0xFF})
      for (const auto& [sign, rows] : {std::pair{1.0f, 5}, {-1.0f, 5}, {1.0f, 30}, {-1.0f, 30}}) {
        Problem p(format, rows, 33, 260, 0, 8);
        std::fill(p.x.begin(), p.x.end(), sign * x);
        std::fill(p.w.begin(), p.w.end(), static_cast<std::uint8_t>(weight));
        ASSERT_EQ(first_difference(run(isa, p), model(isa, p)), -1) << x << " " << weight;
      }
}

TEST_P(FixedPointProducts, RowsThatAreZeroTinyHugeOrNotFinite) {
  Problem p(format, 7, 20, 200, 0, 9);
  const auto row = [&](Index i) { return p.x.begin() + i * 200; };
  const auto finite = run(isa, p);
  std::fill(row(0), row(1), 0.0f);
  std::fill(row(1), row(1) + 128, -0.0f);
  for (auto x = row(2); x != row(3); ++x) *x *= 0x1p-90f;
  for (auto x = row(3); x != row(4); ++x) *x *= 0x1p100f;
  row(4)[199] = kPoison;
  row(5)[3] = kInfinity;
  row(6)[130] = -kInfinity;
  const auto y = run(isa, p);
  EXPECT_EQ(first_difference(y, model(isa, p)), -1);
  for (Index i = 0; i < 7; ++i)
    for (Index j = 0; j < 20; ++j) {
      const float value = y[static_cast<std::size_t>(i * 20 + j)];
      EXPECT_EQ(std::isnan(value), i >= 4) << i;
      EXPECT_TRUE(i != 0 || value == 0.0f);
      EXPECT_TRUE(i != 3 || value == finite[static_cast<std::size_t>(60 + j)] * 0x1p100f);
    }
}

// Numbers of up to 22 bits below the largest, of words 14, are exact, and so are their products with integers.
TEST_P(FixedPointProducts, AreExactWhereNothingIsLost) {
  Problem p(format, 6, 40, 128, 0, 4);
  const float steps = isa == Isa::kAvx2 ? 0x1p13f : 0x1p20f;
  for (float& x : p.x) x = std::nearbyint(x * steps) / steps;
  std::vector<float> expected;
  ref::linear(p.args(expected), 0, 40);
  const auto got = run(isa, p);
  double largest = 0;
  for (const float v : expected) largest = std::max(largest, std::abs(double{v}));
  // What remains are the roundings of a block's sum, its scale and the total.
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_LE(std::abs(double{got[i]} - expected[i]), largest * 0x1p-22);
}

// Every x is at most half a unit off, or a whole one where it would be the first integer that is no word.
TEST_P(FixedPointProducts, AreAsFarOffAsTheirIntegersAtMost) {
  if (isa != Isa::kAvx2) GTEST_SKIP() << "compared with chains of float32";
  for (const Index m : {1, 4, 30}) {
    const Problem p(format, m, 40, 600, 3, 22);
    std::vector<float> exact;
    const LinearArgs a = p.args(exact);
    ref::linear(a, 0, a.n);
    const auto got = run(isa, p);
    const Index block = std::min<Index>(p.scale_columns, 128);
    double squares = 0, bounds = 0;
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < a.n; ++j) {
        double bound = 0;
        for (Index begin = 0; begin < a.k; begin += block) {
          const float* row = a.x + i * a.x_stride;
          const double largest =
              std::abs(*std::max_element(row + begin, row + std::min(begin + block, a.k),
                                         [](float x, float y) { return std::abs(x) < std::abs(y); }));
          double weights = 0;
          for (Index c = begin; c < std::min(begin + block, a.k); ++c) weights += std::abs(weight_code(a, j, c));
          bound += largest * 0x1p-15 * weights * weight_scale(a, j, begin);
        }
        const double error =
            std::abs(double{got[static_cast<std::size_t>(i * a.n + j)]} - exact[static_cast<std::size_t>(i * a.n + j)]);
        EXPECT_LE(error, bound * 1.001) << i << " " << j;
        squares += error * error, bounds += bound * bound;
      }
    // And far less in nearly all outputs.
    EXPECT_LE(std::sqrt(squares / bounds), 0.05);
  }
}

// Not farther from the exact product than chains of float32 are, taken over many outputs.
TEST_P(FixedPointProducts, AreAsCloseAsChainsOfFloat32) {
  if (isa == Isa::kAvx2) GTEST_SKIP() << "16 bits are not";
  const Problem p(format, 8, 64, 2048, 0, 21);
  std::vector<float> exact;
  ref::linear(p.args(exact), 0, 64);
  const auto error = [&](const std::vector<float>& y) {
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += std::pow(double{y[i]} - exact[i], 2);
    return std::sqrt(sum);
  };
  EXPECT_LE(error(run(isa, p)), 1.1 * error(run(Isa::kAvx512, p)));
}

INSTANTIATE_TEST_SUITE_P(Formats, FixedPointProducts, ::testing::ValuesIn(integer_products()), [](const auto& p) {
  std::string name = std::get<0>(p.param).name + std::string("_") + std::string(isa_name(std::get<1>(p.param)));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace fixed_point_test
}  // namespace hadal::kernels
