#include "hadal/kernels/linear.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hadal/core/context.h"
#include "hadal/kernels/cache_sizes.h"
#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/test_products.h"
#include "tests/support/golden.h"

namespace hadal::kernels {
namespace linear_test {
namespace {

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::isnan(a[i]) ? HUGE_VAL : std::abs(double{a[i]} - b[i]));
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return largest > 0 ? difference / largest : difference;
}

class Linear : public ::testing::TestWithParam<std::tuple<Format, Isa>> {
 protected:
  void SetUp() override {
    if (!isa_supported(isa)) GTEST_SKIP() << "this CPU has no " << isa_name(isa);
  }
  Format format = std::get<0>(GetParam());
  Isa isa = std::get<1>(GetParam());
};

TEST_P(Linear, AgreesWithTheReferenceForEveryShape) {
  std::uint64_t seed = 0;
  for (const Index m : {1, 2, 3, 4, 5, 7, 9, 12, 13, 17, 25, 38})
    for (const Index n : {1, 3, 16, 33, 70})
      for (const Index k : {1, 7, 8, 31, 32, 100, 128, 129, 300, 1100}) {
        ++seed;
        const Problem p(format, m, n, k, static_cast<Index>(seed % 130), seed);
        for (const bool rounded : {false, true}) {
          std::vector<float> expected;
          // How close rounding to words is, fixed_point_test says.
          ref::linear((in_words(isa, p) ? with_words(p) : p).args(expected, rounded), 0, n);
          ASSERT_LE(worst(run(isa, p, rounded), expected), 1e-5) << m << " " << n << " " << k;
        }
      }
}

TEST_P(Linear, Bf16ActivationsAreRoundedOnce) {
  std::uint64_t seed = 0;
  for (const Index m : {1, 3, 8, 12, 13, 30})
    for (const Index n : {1, 40, 70})
      for (const Index k : {7, 32, 129, 300, 1100}) {
        Problem p(format, m, n, k, 7, ++seed);
        p.activations = Activations::kBf16;
        const auto got = run(isa, p);
        for (float& v : p.x) v = bf16_to_float(float_to_bf16(v));
        std::vector<float> expected;
        ref::linear(p.args(expected), 0, n);
        ASSERT_LE(worst(got, expected), 1e-5) << m << " " << n << " " << k;
      }
}

TEST_P(Linear, Rule18_ARowHasTheSameBitsAloneAndAmongOthers) {
  for (const Activations activations : {Activations::kF32, Activations::kBf16})
    for (const Index k : {96, 128, 300, 1000}) {
      Problem all(format, 70, 37, k, 100, 5);
      all.activations = activations;
      const auto together = run(isa, all);
      for (const Index m : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 64})
        for (Index begin = 0; begin + m <= 70; begin += 13) {
          Problem some = all;
          some.m = m;
          some.x.assign(all.x.begin() + begin * k, all.x.begin() + (begin + m) * k);
          ASSERT_TRUE(same_bits(run(isa, some), &together[static_cast<std::size_t>(begin * 37)]))
              << "k " << k << ", rows " << begin << " + " << m;
        }
    }
}

// More than go over a panel together (cpu/panels_impl.h): two parts and a bit.
TEST_P(Linear, Rule18_RowsBeyondTheCacheHaveTheSameBitsAsAlone) {
  const Index m = cache_sizes().l2 / 512 + 5, n = 37, k = 300;
  const Problem all(format, m, n, k, 100, 15);
  const auto together = run(isa, all);
  for (Index row = 0; row < m; row += 6) {
    Problem one = all;
    one.m = 1;
    one.x.assign(all.x.begin() + row * k, all.x.begin() + (row + 1) * k);
    ASSERT_TRUE(same_bits(run(isa, one), &together[static_cast<std::size_t>(row * n)])) << row << " of " << m;
  }
}

TEST_P(Linear, EveryInstructionSetGivesTheSameBits) {
  const bool fixed = format.dtype == DType::kI32 || (isa == Isa::kAvx512Bf16 && format.dtype == DType::kI8);
  if (isa != Isa::kAvx2 && fixed) GTEST_SKIP() << "sums of integers in fixed point: see fixed_point_test";
  for (const Index m : {1, 6, 30})
    for (const Index k : {64, 77, 640}) {
      const Problem p(format, m, 90, k, 17, 3);
      EXPECT_TRUE(same_bits(run(isa, p), run(Isa::kAvx2, p).data())) << m << " " << k;
    }
}

TEST_P(Linear, SlicesOfColumnsAndGatheredRowsHaveTheSameBits) {
  for (const Index m : {9, 20}) {
    const Problem p(format, m, 50, 200, 77, 6);
    const auto whole = run(isa, p);
    std::vector<float> y;
    LinearArgs a = p.args(y);
    for (Index begin = 0; begin < 50; begin += 7) multiply(isa, a, begin, std::min<Index>(begin + 7, 50));
    EXPECT_TRUE(same_bits(y, whole.data()));
    const std::vector<Index> rows = {7, 0, 7};
    a = p.args(y);
    a.x_rows = rows.data();
    a.m = 3;
    multiply(isa, a, 0, 50);
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_EQ(std::memcmp(&y[i * 50], &whole[static_cast<std::size_t>(rows[i]) * 50], 200), 0);
  }
}

TEST_P(Linear, RowsThatWereRoundedToInt8BeforehandHaveTheSameBits) {
  if (format.dtype != DType::kF8E4M3 && format.dtype != DType::kBF16) GTEST_SKIP() << "has other codes";
  for (const Index n : {64, 192})
    for (const Index k : {8, 72, 128, 1096}) {
      Problem p(format, 26, n, k, 96, 13);
      p.activations = Activations::kInt8;
      if (format.dtype == DType::kF8E4M3) p.w[static_cast<std::size_t>(5 * k + 3)] = 0x7F;
      std::vector<float> expected, got;
      Scratch codes(n * k);
      std::vector<float> scale(static_cast<std::size_t>(n * ((k + 127) / 128)));
      const LinearKernels& kernels = linear_kernels(isa);
      for (Index row = 0; row < n; row += 64)
        kernels.round_rows(p.args(got), row, row + 64, static_cast<std::byte*>(codes.data()) + row * k, scale.data());
      for (const Index m : {1, 2, 3, 4, 6, 8, 12, 26}) {
        p.m = m;
        multiply(isa, p.args(expected), 0, n);
        LinearArgs a = p.args(got);
        a.w = codes.data();
        a.w_dtype = DType::kI8;
        a.w_layout = kernels.groups;
        a.w_stride = k;
        a.w_scale = scale.data();
        a.w_scale_dtype = DType::kF32;
        a.w_scale_stride = (k + 127) / 128;
        a.w_scale_layout = kernels.groups;
        a.scale_rows = 1;
        a.scale_columns = 128;
        a.w_first_row = 0;
        multiply(isa, a, 0, 64);
        multiply(isa, a, 64, n);
        ASSERT_TRUE(same_bits(got, expected.data())) << m << " " << n << " " << k;
        EXPECT_EQ(std::isnan(got[5]), format.dtype == DType::kF8E4M3);
      }
    }
}

TEST_P(Linear, GroupedRowsHaveTheSameBits) {
  for (const Activations activations : {Activations::kF32, Activations::kBf16, Activations::kInt8})
    for (const Index n : {64, 192, 320})
      for (const Index k : {8, 72, 128, 1096}) {
        Problem p(format, 26, n, k, 96, 13);
        p.activations = activations;
        ASSERT_TRUE(can_group(format.dtype, n, k));
        const LinearKernels& kernels = linear_kernels(isa);
        Scratch grouped(static_cast<Index>(p.w.size()));
        std::vector<float> expected, got;
        LinearArgs a = p.args(expected);
        for (Index row = 0; row < n; row += 128)  // in pieces, to their places
          kernels.group_rows(a, row, std::min<Index>(row + 128, n),
                             static_cast<std::byte*>(grouped.data()) + row * static_cast<Index>(p.w.size()) / n);
        for (const Index m : {1, 2, 3, 4, 6, 8, 12, 26}) {
          p.m = m;
          multiply(isa, p.args(expected), 0, n);
          a = p.args(got);
          a.w = grouped.data();
          a.w_layout = kernels.groups;
          multiply(isa, a, 0, 64);
          multiply(isa, a, 64, n);
          ASSERT_TRUE(same_bits(got, expected.data()))
              << activations_name(activations) << " " << m << " " << n << " " << k;
        }
      }
}

TEST_P(Linear, AnotherInstructionSetsLayoutIsAnError) {
  Problem p(format, 3, 128, 128, 96, 13);
  std::vector<float> y;
  LinearArgs a = p.args(y);
  const LinearKernels& kernels = linear_kernels(isa);
  for (const Layout layout : {Layout::kGroups32, Layout::kGroups64, Layout::kDevice}) {
    a.w_layout = layout;
    if (layout == kernels.groups) {
      EXPECT_NO_THROW(kernels.packed_bytes(a));
    } else {
      EXPECT_THROW(kernels.packed_bytes(a), Error);
      EXPECT_THROW(kernels.multiply(a, nullptr, 0, 128, nullptr, nullptr), Error);
    }
    EXPECT_THROW(kernels.transposed(a, 0, 128), Error);
    EXPECT_THROW(ref::linear(a, 0, 128), Error);
    EXPECT_THROW(ref::linear_transposed(a, 0, 3), Error);
  }
}

TEST_P(Linear, PackingByPiecesIsTheSame) {
  for (const Activations activations : {Activations::kF32, Activations::kBf16}) {
    Problem p(format, 14, 40, 300, 0, 11);
    p.activations = activations;
    const auto whole = run(isa, p);
    std::vector<float> y;
    const LinearArgs a = p.args(y);
    const LinearKernels& k = linear_kernels(isa);
    Scratch packed(k.packed_bytes(a)), scratch(k.scratch_bytes(a));
    for (Index tile = k.num_tiles(a); tile-- > 0;)
      for (Index begin = 256; begin >= 0; begin -= 128)
        k.pack(a, tile, tile + 1, begin, std::min<Index>(begin + 128, 300), packed.data());
    k.multiply(a, packed.data(), 0, 40, nullptr, scratch.data());
    EXPECT_TRUE(same_bits(y, whole.data()));
  }
}

TEST_P(Linear, ReadsNoByteBehindTheWeights) {
  const Problem p(format, 14, 6, 45, 0, 7);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t room = (p.w.size() + page - 1) / page * page;
  auto* memory = static_cast<std::uint8_t*>(
      ::mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(::mprotect(memory + room, page, PROT_NONE), 0);
  std::uint8_t* end_aligned = memory + room - p.w.size();
  std::memcpy(end_aligned, p.w.data(), p.w.size());
  for (const Index m : {1, 2, 3, 5, 14}) {
    std::vector<float> y;
    LinearArgs a = p.args(y);
    a.w = end_aligned;
    a.m = m;
    multiply(isa, a, 0, p.n);
    std::vector<float> x(static_cast<std::size_t>(m * p.n), 1.0f), out(static_cast<std::size_t>(m * p.k));
    a.x = x.data();
    a.x_stride = p.n;
    a.y = out.data();
    a.y_stride = p.k;
    linear_kernels(isa).transposed(a, 0, a.k);
  }
  ::munmap(memory, room + page);
}

TEST_P(Linear, TransposedAgreesWithTheReferenceAndHasTheSameBitsForEveryRowCount) {
  for (const Index k : {5, 64, 130, 300}) {
    Problem p(format, 7, 37, k, 60, 8);
    p.x.resize(static_cast<std::size_t>(7 * 37), 0.25f);
    std::vector<float> got, expected;
    LinearArgs a = p.args(got);
    a.x_stride = 37;
    got.assign(static_cast<std::size_t>(7 * k), kPoison);
    expected = got;
    a.y_stride = k;
    a.y = got.data();
    linear_kernels(isa).transposed(a, 0, k);
    a.y = expected.data();
    ref::linear_transposed(a, 0, 7);
    EXPECT_LE(worst(got, expected), 1e-5) << k;
    std::vector<float> one(static_cast<std::size_t>(k));
    a.x = p.x.data() + 5 * 37;
    a.y = one.data();
    a.m = 1;
    linear_kernels(isa).transposed(a, 0, k);
    EXPECT_TRUE(same_bits(one, &got[static_cast<std::size_t>(5 * k)]));
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Linear,
                         ::testing::Combine(::testing::ValuesIn(kFormats),
                                            ::testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16)),
                         [](const auto& p) {
                           std::string name = std::get<0>(p.param).name + std::string("_") +
                                              std::string(isa_name(std::get<1>(p.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class Fp8Linear : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
  static constexpr Format kFp8 = kFormats[3];
};

TEST_P(Fp8Linear, Rule32_NanCodesGiveNan) {
  for (const std::uint8_t code : {0x7F, 0xFF})
    for (const Index m : {1, 3, 8, 14}) {
      Problem p(kFp8, m, 9, 40, 0, 9);
      p.w[2 * 40 + 37] = code;
      const auto y = run(GetParam(), p);
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < 9; ++j) EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i * 9 + j)]), j == 2);
    }
}

TEST_P(Fp8Linear, Rule32_RowsSeenCleanAreNotLookedAtAgainAndOthersAre) {
  for (const Index m : {1, 2, 3}) {
    Problem p(kFp8, m, 200, 300, 96, 12);
    std::vector<std::uint8_t> clean((96 + 200 + 31) / 32);
    std::vector<float> first, second;
    LinearArgs a = p.args(first);
    a.w_clean = clean.data();
    multiply(GetParam(), a, 0, 200);
    EXPECT_EQ(clean[3], 1);
    a = p.args(second);
    a.w_clean = clean.data();
    multiply(GetParam(), a, 0, 200);
    EXPECT_TRUE(same_bits(first, second.data()));
    // A NaN code that was there from the start is met every time, and its set never becomes clean.
    std::fill(clean.begin(), clean.end(), std::uint8_t{0});
    p.w[100 * 300 + 299] = 0x7F;
    for (int i = 0; i < 2; ++i) {
      a = p.args(second);
      a.w_clean = clean.data();
      multiply(GetParam(), a, 0, 200);
      EXPECT_EQ(clean[(96 + 100) / 32], 0);
      for (Index r = 0; r < m; ++r)
        for (Index j = 0; j < 200; ++j) EXPECT_EQ(std::isnan(second[static_cast<std::size_t>(r * 200 + j)]), j == 100);
    }
  }
}

// Which are what loaded models are made of, and have loops of their own (cpu/avx2/tile.h).
TEST_P(Fp8Linear, GroupedRowsKnownToBeCleanHaveTheSameBits) {
  for (const Index n : {64, 192})
    for (const Index k : {8, 72, 128, 300, 1096}) {
      Problem p(kFp8, 40, n, k, 96, 16);
      std::vector<std::uint8_t> clean(static_cast<std::size_t>((96 + n + 31) / 32));
      std::vector<float> expected, got;
      LinearArgs a = p.args(expected);
      a.w_clean = clean.data();
      Scratch grouped(n * k);
      linear_kernels(GetParam()).group_rows(a, 0, n, grouped.data());
      ASSERT_TRUE(std::all_of(clean.begin() + 3, clean.end(), [](std::uint8_t c) { return c == 1; }));
      for (const Index m : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 24, 25, 40}) {
        p.m = m;
        multiply(GetParam(), p.args(expected), 0, n);
        a = p.args(got);
        a.w = grouped.data();
        a.w_layout = linear_kernels(GetParam()).groups;
        a.w_clean = clean.data();
        multiply(GetParam(), a, 0, 64);
        multiply(GetParam(), a, 64, n);
        ASSERT_TRUE(same_bits(got, expected.data())) << m << " " << n << " " << k;
      }
    }
}

TEST_P(Fp8Linear, Rule32_NanCodesOfGroupedRowsGiveNan) {
  Problem p(kFp8, 14, 64, 40, 0, 9);
  p.w[34 * 40 + 37] = 0xFF;
  std::vector<std::uint8_t> clean(2);
  std::vector<float> y;
  LinearArgs a = p.args(y);
  a.w_clean = clean.data();
  Scratch grouped(64 * 40);
  linear_kernels(GetParam()).group_rows(a, 0, 64, grouped.data());
  EXPECT_EQ(clean, (std::vector<std::uint8_t>{1, 0}));
  for (const Index m : {1, 3, 8, 14})
    for (int known = 0; known < 2; ++known) {
      p.m = m;
      a = p.args(y);
      a.w = grouped.data();
      a.w_layout = linear_kernels(GetParam()).groups;
      a.w_clean = known ? clean.data() : nullptr;
      multiply(GetParam(), a, 0, 64);
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < 64; ++j) EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i * 64 + j)]), j == 34);
    }
}

TEST_P(Fp8Linear, EveryE4m3CodeIsDecodedExactly) {
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    for (const Index m : {1, 20}) {
      Problem p(kFp8, m, 1, 16, 0, 10);
      const float one = 1;
      std::memcpy(p.scale.data(), &one, 4);
      for (const std::size_t at : {std::size_t{0}, std::size_t{13}}) {
        std::fill(p.x.begin(), p.x.end(), 0.0f);
        std::fill(p.w.begin(), p.w.end(), std::uint8_t{0});
        p.x[at] = 1;
        p.w[at] = static_cast<std::uint8_t>(code);
        EXPECT_EQ(run(GetParam(), p)[0], e4m3_to_float({static_cast<std::uint8_t>(code)}));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Fp8Linear, ::testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16),
                         [](const auto& p) {
                           std::string name(isa_name(p.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// The goldens of the FP8 linear: x [7, 384], W [300, 384].
class GoldenLinear : public ::testing::TestWithParam<Isa> {
 protected:
  test::Golden golden{HADAL_TEST_DATA "/golden/formats.safetensors"};
  std::vector<float> x = golden.floats("act.in"), scale = golden.floats("weight.scale_inv"),
                     x_scale = golden.floats("act.scale");
  std::vector<std::uint8_t> w = golden.bytes("weight.q"), x_codes = golden.bytes("act.q");

  std::vector<float> run(const std::vector<float>& values, const float* scales) const {
    std::vector<float> y(7 * 300);
    LinearArgs a;
    a.x = values.data();
    a.x_stride = 384;
    a.x_scale = scales;
    a.x_scale_stride = 3;
    a.w = w.data();
    a.w_dtype = DType::kF8E4M3;
    a.w_stride = 384;
    a.w_scale = scale.data();
    a.w_scale_stride = 3;
    a.y = y.data();
    a.y_stride = 300;
    a.m = 7;
    a.n = 300;
    a.k = 384;
    if (GetParam() == Isa::kRef)
      ref::linear(a, 0, 300);
    else
      multiply(GetParam(), a, 0, 300);
    return y;
  }
};

TEST_P(GoldenLinear, Rule29_Rule30_Rule34_Fp8WeightsMatch) {
  if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  EXPECT_LE(worst(run(x, nullptr), golden.floats("linear.fp8_weights.out")), 1e-5);
}

TEST_P(GoldenLinear, Rule33_Fp8ActivationsMatch) {
  if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  std::vector<float> values(x.size()), scales(21);
  for (Index r = 0; r < 7; ++r)
    for (Index t = 0; t < 3; ++t)
      scales[static_cast<std::size_t>(r * 3 + t)] =
          ref::quantize_tile(&x[static_cast<std::size_t>(r * 384 + t * 128)], nullptr,
                             &values[static_cast<std::size_t>(r * 384 + t * 128)], 128, false);
  EXPECT_LE(worst(run(values, scales.data()), golden.floats("linear.fp8_both.out")), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Isas, GoldenLinear, ::testing::ValuesIn(kAllIsas), [](const auto& p) {
  std::string name(isa_name(p.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Quantize, Rule33_ActivationCodesAndScalesAreExact) {
  const test::Golden golden(HADAL_TEST_DATA "/golden/formats.safetensors");
  const auto x = golden.floats("act.in");
  for (const bool ue8m0 : {false, true}) {
    const std::string prefix = ue8m0 ? "act.ue8m0." : "act.";
    const auto codes = golden.bytes(prefix + "q");
    const auto scales = golden.floats(prefix + "scale");
    for (std::size_t t = 0; t < 21; ++t) {
      std::uint8_t got[128];
      EXPECT_EQ(ref::quantize_tile(&x[t * 128], got, nullptr, 128, ue8m0), scales[t]);
      EXPECT_EQ(std::memcmp(got, &codes[t * 128], 128), 0) << prefix << t;
    }
  }
}

}  // namespace
}  // namespace linear_test
}  // namespace hadal::kernels
