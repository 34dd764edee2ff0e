// Products with activations rounded to int8, against the scalar kernel: all bits.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "hadal/core/context.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/kernels/linear.h"
#include "hadal/kernels/test_scratch.h"

namespace hadal::kernels {
namespace int8_test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Format {
  const char* name;
  DType dtype;
  Index scale_rows, scale_columns;  // rows 0: no scale; columns -1: one scale a row
  bool zeros = false;
};

constexpr Format kFormats[] = {{"BF16", DType::kBF16, 0, 128},
                               {"FP8", DType::kF8E4M3, 128, 128},
                               {"INT8_blocks", DType::kI8, 128, 128},
                               {"INT8_channels", DType::kI8, 1, -1},
                               {"INT4_32", DType::kI32, 1, 32},
                               {"INT4_64_zeros", DType::kI32, 1, 64, true},
                               {"INT4_128_zeros", DType::kI32, 1, 128, true}};
constexpr Format kBf16 = kFormats[0], kFp8 = kFormats[1], kInt8 = kFormats[2];

struct Problem {
  Format format;
  Index m, n, k, w_stride, groups, scale_columns;
  std::vector<float> x, scale;
  std::vector<std::uint8_t> w, zero;

  Problem(const Format& f, Index rows, Index columns, Index depth, std::uint64_t seed)
      : format(f), m(rows), n(columns), k(depth) {
    const Philox random(seed, 1);
    std::uint64_t at = 0;
    w_stride = f.dtype == DType::kI32 ? (k + 7) / 8 : k;
    scale_columns = f.scale_columns > 0 ? f.scale_columns : k;
    groups = (k + scale_columns - 1) / scale_columns;
    for (Index i = 0; i < m * k; ++i) x.push_back(static_cast<float>(random.uniform(at++) * 2 - 1));
    for (Index i = 0; i < n * groups && f.scale_rows; ++i) {
      scale.push_back(0.01f + static_cast<float>(random.uniform(at++)));
      zero.push_back(static_cast<std::uint8_t>(random.block(at++)[0] % 16));
    }
    const Index bytes = n * w_stride * (f.dtype == DType::kI32 ? 4 : f.dtype == DType::kBF16 ? 2 : 1);
    for (Index i = 0; i < bytes; ++i) {
      auto byte = static_cast<std::uint8_t>(random.block(at++)[0]);
      if (f.dtype == DType::kF8E4M3 && (byte & 0x7F) == 0x7F) byte = 0x70;
      if (f.dtype == DType::kBF16 && i % 2) byte = static_cast<std::uint8_t>(0x3C | (byte & 0x83));  // 2^-8 to 2^0
      w.push_back(byte);
    }
  }

  LinearArgs args(std::vector<float>& y) const {
    LinearArgs a;
    a.activations = Activations::kInt8;
    a.x = x.data();
    a.x_stride = k;
    a.w = w.data();
    a.w_dtype = format.dtype;
    a.w_stride = w_stride;
    if (format.scale_rows) {
      a.w_scale = scale.data();
      a.w_scale_stride = groups;
      a.scale_rows = format.scale_rows;
      a.scale_columns = scale_columns;
      if (format.zeros) a.w_zero = zero.data();
    }
    y.assign(static_cast<std::size_t>(m * n), kNan);
    a.y = y.data();
    a.y_stride = n;
    a.m = m;
    a.n = n;
    a.k = k;
    return a;
  }
};

// The scalar kernel.
std::vector<float> model(const Problem& p) {
  std::vector<float> y;
  ref::linear(p.args(y), 0, p.n);
  return y;
}

std::vector<float> run(Isa isa, const Problem& p) {
  std::vector<float> y;
  multiply(isa, p.args(y), 0, p.n);
  return y;
}

// -1, or the first element whose bits differ; NaN is NaN.
Index first_difference(const std::vector<float>& a, const float* b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], 4) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]))) return static_cast<Index>(i);
  return -1;
}

class Int8 : public ::testing::TestWithParam<std::tuple<Format, Isa>> {
 protected:
  void SetUp() override {
    if (!isa_supported(isa)) GTEST_SKIP() << "this CPU has no " << isa_name(isa);
  }
  Format format = std::get<0>(GetParam());
  Isa isa = std::get<1>(GetParam());
};

std::string name_of(std::string name, Isa isa) {
  name += "_" + std::string(isa_name(isa));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

TEST_P(Int8, HasTheModelsBitsForEveryShape) {
  std::uint64_t seed = 0;
  for (const Index m : {1, 2, 3, 5, 7, 9, 12, 13, 31})
    for (const Index n : {1, 16, 33, 70})
      for (const Index k : {1, 7, 32, 33, 100, 128, 129, 300, 1100}) {
        const Problem p(format, m, n, k, ++seed);
        ASSERT_EQ(first_difference(run(isa, p), model(p).data()), -1) << m << " " << n << " " << k;
      }
}

TEST_P(Int8, Rule18_ARowHasTheSameBitsAloneAndAmongOthers) {
  const Problem all(format, 40, 37, 300, 5);
  const auto together = run(isa, all);
  for (const Index m : {1, 2, 4, 6, 7, 12, 13})
    for (Index begin = 0; begin + m <= 40; begin += 9) {
      Problem some = all;
      some.m = m;
      some.x.assign(all.x.begin() + begin * 300, all.x.begin() + (begin + m) * 300);
      ASSERT_EQ(first_difference(run(isa, some), &together[static_cast<std::size_t>(begin * 37)]), -1);
    }
}

TEST_P(Int8, SlicesOfColumnsAndGatheredRowsHaveTheSameBits) {
  const Problem p(format, 20, 150, 200, 6);
  const auto whole = run(isa, p);
  std::vector<float> y;
  LinearArgs a = p.args(y);
  for (Index begin = 0; begin < 150; begin += 7) multiply(isa, a, begin, std::min<Index>(begin + 7, 150));
  EXPECT_EQ(first_difference(y, whole.data()), -1);
  const std::vector<Index> rows = {7, 0, 7};
  a = p.args(y);
  a.x_rows = rows.data();
  a.m = 3;
  multiply(isa, a, 0, 150);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(std::memcmp(&y[i * 150], &whole[static_cast<std::size_t>(rows[i]) * 150], 600), 0);
}

TEST_P(Int8, PackingByPiecesIsTheSame) {
  const Problem p(format, 14, 40, 300, 11);
  std::vector<float> y;
  const LinearArgs a = p.args(y);
  const LinearKernels& k = linear_kernels(isa);
  Scratch packed(k.packed_bytes(a)), scratch(k.scratch_bytes(a));
  for (Index tile = k.num_tiles(a); tile-- > 0;)
    for (Index begin = 256; begin >= 0; begin -= 128)
      k.pack(a, tile, tile + 1, begin, std::min<Index>(begin + 128, 300), packed.data());
  k.multiply(a, packed.data(), 0, 40, nullptr, scratch.data());
  EXPECT_EQ(first_difference(y, run(isa, p).data()), -1);
}

TEST_P(Int8, ReadsNoByteBehindTheWeights) {
  const Problem p(format, 14, 6, 45, 7);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t room = (p.w.size() + page - 1) / page * page;
  auto* memory = static_cast<std::uint8_t*>(
      ::mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(::mprotect(memory + room, page, PROT_NONE), 0);
  std::uint8_t* end_aligned = memory + room - p.w.size();
  std::memcpy(end_aligned, p.w.data(), p.w.size());
  for (const Index m : {1, 3, 14}) {
    std::vector<float> y;
    LinearArgs a = p.args(y);
    a.w = end_aligned;
    a.m = m;
    multiply(isa, a, 0, p.n);
  }
  ::munmap(memory, room + page);
}

// The bounds of the sums: every x code 127 or -127, weights at their limits.
TEST_P(Int8, LargestCodesDoNotSaturate) {
  for (const int weight : {0x00, 0x7F, 0x80, 0x81, 0xFF})
    for (const float sign : {1.0f, -1.0f}) {
      Problem p(format, 13, 33, 260, 8);
      std::fill(p.x.begin(), p.x.end(), sign * 3.0f);
      std::fill(p.w.begin(), p.w.end(), static_cast<std::uint8_t>(weight));
      ASSERT_EQ(first_difference(run(isa, p), model(p).data()), -1) << weight;
    }
}

TEST_P(Int8, RowsThatAreZeroTinyHugeOrNotFinite) {
  Problem p(format, 13, 20, 200, 9);
  const auto row = [&](Index i) { return p.x.begin() + i * 200; };
  const auto finite = run(isa, p);
  std::fill(row(0), row(1), 0.0f);
  std::fill(row(1), row(1) + 128, -0.0f);
  for (auto x = row(2); x != row(3); ++x) *x *= 1e-41f;
  for (auto x = row(3); x != row(4); ++x) *x *= 3e38f;
  row(4)[199] = kNan;
  row(5)[3] = kInfinity;
  row(6)[130] = -kInfinity;
  const auto y = run(isa, p);
  EXPECT_EQ(first_difference(y, model(p).data()), -1);
  for (Index i = 0; i < 13; ++i)
    for (Index j = 0; j < 20; ++j) {
      const float value = y[static_cast<std::size_t>(i * 20 + j)];
      EXPECT_EQ(std::isnan(value), i >= 4 && i <= 6) << i;
      EXPECT_TRUE(i != 0 || value == 0.0f);
      EXPECT_TRUE(i <= 6 || value == finite[static_cast<std::size_t>(i * 20 + j)]);
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, Int8,
                         ::testing::Combine(::testing::ValuesIn(kFormats),
                                            ::testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16)),
                         [](const auto& p) { return name_of(std::get<0>(p.param).name, std::get<1>(p.param)); });

class Int8Edges : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
};

TEST_P(Int8Edges, Rule32_NanCodesGiveNan) {
  for (const std::uint8_t code : {0x7F, 0xFF})
    for (const Index m : {1, 14}) {
      Problem p(kFp8, m, 9, 140, 9);
      p.w[2 * 140 + 137] = code;
      const auto y = run(GetParam(), p);
      for (Index i = 0; i < m * 9; ++i) EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i)]), i % 9 == 2);
    }
}

TEST_P(Int8Edges, EveryE4m3CodeIsRoundedUnderEveryLargest) {
  Problem p(kFp8, 1, 127, 128, 1);
  std::fill(p.scale.begin(), p.scale.end(), 1.0f);
  for (int largest = 0; largest < 127; ++largest)
    for (int c = 0; c < 128; ++c) {
      const int code = c < largest ? c : largest;
      p.w[static_cast<std::size_t>(largest * 128 + c)] = static_cast<std::uint8_t>(code | (c % 3 ? 0x80 : 0));
    }
  EXPECT_EQ(first_difference(run(GetParam(), p), model(p).data()), -1);
}

TEST_P(Int8Edges, Bf16WeightsThatAreNotFiniteGiveNan) {
  for (const std::uint16_t bits : {0x7F80, 0xFF80, 0x7FC0}) {
    Problem p(kBf16, 3, 9, 140, 9);
    std::memcpy(&p.w[(2 * 140 + 7) * 2], &bits, 2);
    const auto y = run(GetParam(), p);
    for (Index i = 0; i < 27; ++i) EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i)]), i % 9 == 2);
  }
}

TEST_P(Int8Edges, UnscaledCodesHaveAFactorOfOne) {
  Problem p(kInt8, 3, 40, 150, 4);
  std::vector<float> y;
  LinearArgs a = p.args(y);
  a.w_scale = nullptr;
  multiply(GetParam(), a, 0, 40);
  std::fill(p.scale.begin(), p.scale.end(), 1.0f);
  EXPECT_EQ(first_difference(y, model(p).data()), -1);
}

TEST_P(Int8Edges, IsCloseToTheExactProduct) {
  for (const Format& f : kFormats) {
    const Problem p(f, 8, 64, 1024, 21);
    std::vector<float> expected;
    ref::linear(p.args(expected), 0, 64);
    const auto y = run(GetParam(), p);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      error += std::pow(double{y[i]} - expected[i], 2);
      size += std::pow(double{expected[i]}, 2);
    }
    EXPECT_LT(std::sqrt(error / size), 0.015) << f.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Int8Edges, ::testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16),
                         [](const auto& p) { return name_of("on", p.param); });

}  // namespace
}  // namespace int8_test
}  // namespace hadal::kernels
