#include "hadal/kernels/linear.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "hadal/core/context.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/kernels/elementwise.h"
#include "tests/support/golden.h"

namespace hadal::kernels {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

struct Problem {
  DType dtype;
  Index m, n, k, first_row;
  std::vector<float> x, scale, x_scale;
  std::vector<std::uint8_t> w;
  Index blocks;

  Problem(DType type, Index rows, Index columns, Index depth, Index row0, std::uint64_t seed)
      : dtype(type), m(rows), n(columns), k(depth), first_row(row0) {
    const Philox random(seed, 1);
    std::uint64_t at = 0;
    const auto uniform = [&] { return static_cast<float>(random.uniform(at++) * 2 - 1); };
    blocks = (k + 127) / 128;
    for (Index i = 0; i < m * k; ++i) x.push_back(uniform());
    for (Index i = 0; i < ((first_row + n + 127) / 128) * blocks; ++i) scale.push_back(0.01f + std::abs(uniform()));
    for (Index i = 0; i < m * blocks; ++i) x_scale.push_back(0.5f + std::abs(uniform()));
    w.resize(static_cast<std::size_t>(n * k) * dtype_bytes(dtype));
    for (Index i = 0; i < n * k; ++i) {
      const float v = uniform();
      if (dtype == DType::kF32)
        std::memcpy(&w[static_cast<std::size_t>(i) * 4], &v, 4);
      else if (dtype == DType::kBF16) {
        const bf16 b = float_to_bf16(v);
        std::memcpy(&w[static_cast<std::size_t>(i) * 2], &b, 2);
      } else if (dtype == DType::kF16) {
        const f16 b = float_to_f16(v);
        std::memcpy(&w[static_cast<std::size_t>(i) * 2], &b, 2);
      } else
        w[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(random.block(at++)[0] % 0x7F) | (v < 0 ? 0x80 : 0);
    }
  }

  LinearArgs args(std::vector<float>& y, bool rounded = false) const {
    LinearArgs a;
    a.x = x.data();
    a.x_stride = k;
    a.w = w.data();
    a.w_dtype = dtype;
    a.w_stride = k;
    if (dtype == DType::kF8E4M3) {
      a.w_scale = scale.data();
      a.w_scale_stride = blocks;
      a.w_first_row = first_row;
      if (rounded) a.x_scale = x_scale.data(), a.x_scale_stride = blocks;
    }
    y.assign(static_cast<std::size_t>(m * n), kPoison);
    a.y = y.data();
    a.y_stride = n;
    a.m = m;
    a.n = n;
    a.k = k;
    return a;
  }
};

std::vector<float> run_avx2(const Problem& p, bool rounded = false) {
  std::vector<float> y, panel(static_cast<std::size_t>(avx2::linear_panel_floats(p.k)), kPoison);
  avx2::linear(p.args(y, rounded), 0, p.n, panel.data());
  return y;
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::isnan(a[i]) ? HUGE_VAL : std::abs(double{a[i]} - b[i]));
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return largest > 0 ? difference / largest : difference;
}

class Linear : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!isa_supported(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  }
};

TEST_P(Linear, AgreesWithTheReferenceForEveryShape) {
  std::uint64_t seed = 0;
  for (const Index m : {1, 2, 3, 4, 5, 17})
    for (const Index n : {1, 3, 8, 33})
      for (const Index k : {1, 7, 8, 15, 16, 100, 128, 129, 300}) {
        ++seed;
        const Problem p(GetParam(), m, n, k, static_cast<Index>(seed % 130), seed);
        for (const bool rounded : {false, true}) {
          std::vector<float> expected;
          ref::linear(p.args(expected, rounded), 0, n);
          ASSERT_LE(worst(run_avx2(p, rounded), expected), 2e-6) << m << " " << n << " " << k;
        }
      }
}

TEST_P(Linear, Rule18_ARowHasTheSameBitsAloneAndAmongOthers) {
  for (const Index k : {96, 128, 300, 1000}) {
    const Problem all(GetParam(), 70, 21, k, 100, 5);
    const auto together = run_avx2(all);
    for (const Index m : {1, 2, 3, 4, 7, 64})
      for (Index begin = 0; begin + m <= 70; begin += 13) {
        Problem some = all;
        some.m = m;
        some.x.assign(all.x.begin() + begin * k, all.x.begin() + (begin + m) * k);
        const auto got = run_avx2(some);
        ASSERT_EQ(std::memcmp(got.data(), together.data() + begin * 21, got.size() * 4), 0)
            << "k " << k << ", rows " << begin << " + " << m;
      }
  }
}

TEST_P(Linear, SlicesOfColumnsHaveTheSameBits) {
  const Problem p(GetParam(), 9, 50, 200, 77, 6);
  const auto whole = run_avx2(p);
  std::vector<float> y, panel(static_cast<std::size_t>(avx2::linear_panel_floats(p.k)));
  const LinearArgs a = p.args(y);
  for (Index begin = 0; begin < 50; begin += 7) avx2::linear(a, begin, std::min<Index>(begin + 7, 50), panel.data());
  EXPECT_EQ(std::memcmp(y.data(), whole.data(), y.size() * 4), 0);
}

TEST_P(Linear, ReadsNoByteBehindTheWeights) {
  const Problem p(GetParam(), 5, 6, 45, 0, 7);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t room = (p.w.size() + page - 1) / page * page;
  auto* memory = static_cast<std::uint8_t*>(
      ::mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(::mprotect(memory + room, page, PROT_NONE), 0);
  std::uint8_t* end_aligned = memory + room - p.w.size();
  std::memcpy(end_aligned, p.w.data(), p.w.size());
  for (const Index m : {1, 2, 3, 5}) {
    std::vector<float> y, panel(static_cast<std::size_t>(avx2::linear_panel_floats(p.k)));
    LinearArgs a = p.args(y);
    a.w = end_aligned;
    a.m = m;
    avx2::linear(a, 0, p.n, panel.data());
    Problem transposed = p;
    std::vector<float> x(static_cast<std::size_t>(m * p.n), 1.0f), out(static_cast<std::size_t>(m * p.k));
    a.x = x.data();
    a.x_stride = p.n;
    a.y = out.data();
    a.y_stride = p.k;
    avx2::linear_transposed(a, 0, m);
  }
  ::munmap(memory, room + page);
}

TEST_P(Linear, TransposedAgreesWithTheReference) {
  for (const Index k : {5, 64, 130, 300}) {
    Problem p(GetParam(), 4, 37, k, 60, 8);
    p.x.resize(static_cast<std::size_t>(4 * 37), 0.25f);
    std::vector<float> got, expected;
    LinearArgs a = p.args(got);
    a.x_stride = 37;
    got.assign(static_cast<std::size_t>(4 * k), kPoison);
    expected = got;
    a.y_stride = k;
    a.y = got.data();
    avx2::linear_transposed(a, 0, 4);
    a.y = expected.data();
    ref::linear_transposed(a, 0, 4);
    EXPECT_LE(worst(got, expected), 2e-6) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Linear, ::testing::Values(DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3),
                         [](const auto& p) { return std::string(dtype_name(p.param)); });

TEST(Linear, Rule32_NanCodesGiveNan) {
  if (!isa_supported(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  for (const std::uint8_t code : {0x7F, 0xFF})
    for (const Index m : {1, 3, 8}) {
      Problem p(DType::kF8E4M3, m, 9, 40, 0, 9);
      p.w[2 * 40 + 37] = code;
      const auto y = run_avx2(p);
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < 9; ++j) EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i * 9 + j)]), j == 2);
    }
}

TEST(Linear, EveryE4m3CodeIsDecodedExactly) {
  if (!isa_supported(Isa::kAvx2)) GTEST_SKIP() << "this CPU has no AVX2";
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    Problem p(DType::kF8E4M3, 1, 1, 16, 0, 10);
    std::fill(p.x.begin(), p.x.end(), 0.0f);
    std::fill(p.w.begin(), p.w.end(), std::uint8_t{0});
    for (const std::size_t at : {std::size_t{0}, std::size_t{13}}) {
      p.x[at] = 1;
      p.w[at] = static_cast<std::uint8_t>(code);
      p.scale[0] = 1;
      EXPECT_EQ(run_avx2(p)[0], e4m3_to_float({static_cast<std::uint8_t>(code)}));
      p.x[at] = 0;
    }
  }
}

// The goldens of the FP8 linear: x [7, 384], W [300, 384].
class GoldenLinear : public ::testing::TestWithParam<Isa> {
 protected:
  test::Golden golden{HADAL_TEST_DATA "/golden/formats.safetensors"};
  std::vector<float> x = golden.floats("act.in"), scale = golden.floats("weight.scale_inv"),
                     x_scale = golden.floats("act.scale");
  std::vector<std::uint8_t> w = golden.bytes("weight.q"), x_codes = golden.bytes("act.q");

  std::vector<float> run(const std::vector<float>& values, const float* scales) const {
    std::vector<float> y(7 * 300), panel(static_cast<std::size_t>(avx2::linear_panel_floats(384)));
    LinearArgs a{.x = values.data(),
                 .x_stride = 384,
                 .x_scale = scales,
                 .x_scale_stride = 3,
                 .w = w.data(),
                 .w_dtype = DType::kF8E4M3,
                 .w_stride = 384,
                 .w_scale = scale.data(),
                 .w_scale_stride = 3,
                 .w_first_row = 0,
                 .y = y.data(),
                 .y_stride = 300,
                 .m = 7,
                 .n = 300,
                 .k = 384};
    if (GetParam() == Isa::kRef)
      ref::linear(a, 0, 300);
    else
      avx2::linear(a, 0, 300, panel.data());
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

INSTANTIATE_TEST_SUITE_P(Isas, GoldenLinear, ::testing::Values(Isa::kRef, Isa::kAvx2),
                         [](const auto& p) { return std::string(isa_name(p.param)); });

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
}  // namespace hadal::kernels
