#include "hadal/perf/limits.h"

#include <gtest/gtest.h>

#include <numeric>

#include "hadal/kernels/limits.h"
#include "hadal/perf/roofline.h"

namespace hadal::perf {
namespace {

// The sums of all loops agree on words, whatever the width of a vector: so each reads every byte once.
TEST(ReadLoop, ReadsEveryByteOnce) {
  std::vector<std::uint8_t> data(3 * 4096 + 5);
  std::iota(data.begin(), data.end(), std::uint8_t{1});
  for (const std::int64_t size : {0, 7, 512, 4096, 3 * 4096 + 5}) {
    std::uint64_t words = 0, read = 0;
    std::int64_t i = 0;
    for (; i + 8 <= size / 512 * 512; i += 8) {
      std::uint64_t word;
      std::memcpy(&word, data.data() + i, 8);
      words += word;
    }
    for (; i < size; ++i) words += data[static_cast<std::size_t>(i)];
    if (isa_supported(Isa::kAvx512)) {
      kernels::avx512::read_loop(data.data(), size, &read);
      EXPECT_EQ(read, words) << size;
    }
    if (size % 512 == 0 && isa_supported(Isa::kAvx2)) {
      kernels::avx2::read_loop(data.data(), size, &read);
      EXPECT_EQ(read, words) << size;
    }
    if (size % 512 == 0) {
      kernels::ref::read_loop(data.data(), size, &read);
      EXPECT_EQ(read, words) << size;
    }
  }
}

// Chains start at 0, 1, 2, ... and tend to 1: their sum tells that all of them ran.
TEST(FmaLoop, RunsAllItsChains) {
  float sink = 0;
  EXPECT_EQ(kernels::ref::fma_loop(20000, &sink), 20000.0 * 8 * 2);
  EXPECT_NEAR(sink, 8, 0.01);
  if (isa_supported(Isa::kAvx2)) {
    EXPECT_EQ(kernels::avx2::fma_loop(20000, &sink), 20000.0 * 12 * 8 * 2);
    EXPECT_NEAR(sink, 12, 0.01);
  }
  if (isa_supported(Isa::kAvx512)) {
    EXPECT_EQ(kernels::avx512::fma_loop(20000, &sink), 20000.0 * 16 * 16 * 2);
    EXPECT_NEAR(sink, 16, 0.01);
  }
  if (isa_supported(Isa::kAvx512Bf16)) {
    EXPECT_EQ(kernels::avx512bf16::bf16_dot_loop(8, &sink), 8.0 * 16 * 32 * 2);
    EXPECT_EQ(kernels::avx512bf16::int8_dot_loop(8, &sink), 8.0 * 16 * 64 * 2);
    EXPECT_EQ(sink, 120);  // 0 + 1 + ... + 15, products cancel
  }
}

TEST(Loops, AContextIsHeldAgainstItsOwnInstructionSet) {
  EXPECT_EQ(read_loop_of(Isa::kAvx2).name(), "read-avx2");
  EXPECT_EQ(read_loop_of(Isa::kAvx512Bf16).name(), "read-avx512");
  EXPECT_EQ(compute_loop_of(Isa::kAvx512Bf16, Activations::kF32).name(), "fma-avx512");
  EXPECT_EQ(compute_loop_of(Isa::kAvx512Bf16, Activations::kBf16).name(), "bf16-dot");
  EXPECT_EQ(compute_loop_of(Isa::kAvx512Bf16, Activations::kInt8).name(), "int8-dot");
  EXPECT_EQ(compute_loop_of(Isa::kAvx2, Activations::kBf16).name(), "fma-avx2");
  EXPECT_EQ(compute_loop_of(Isa::kRef, Activations::kInt8).name(), "fma-ref");
}

TEST(LimitMeter, MeasuresWhatItWasAskedFor) {
  Context ctx(2);
  const ReadTarget memory(std::size_t{3} << 20);
  EXPECT_EQ(memory.bytes(), std::size_t{3} << 20);
  const Loop read = read_loop_of(Isa::kRef), fma = fma_loop_of(Isa::kRef);
  LimitMeter meter(ctx, memory, {read, fma, read});
  EXPECT_EQ(meter.loops().size(), 2u);
  EXPECT_THROW(meter.rate(read), Error);
  meter.sample();
  EXPECT_GT(meter.rate(read), 0);
  EXPECT_GT(meter.rate(fma), 0);
  EXPECT_EQ(meter.spread(fma).runs, 1);
}

TEST(Roofline, IsTheLargerOfReadingAndArithmeticAndAttentionBehindIt) {
  PassWork work;
  work[Phase::kProjections] = {100, 1000};
  work[Phase::kHead] = {100, 1000};
  work[Phase::kAttention] = {1, 50};
  const Roofline reading{.read_rate = 10, .compute_rate = 1000, .attention_rate = 10};
  EXPECT_DOUBLE_EQ(reading.seconds(work), 20 + 5);
  EXPECT_TRUE(reading.reading(work));
  const Roofline computing{.read_rate = 1000, .compute_rate = 10, .attention_rate = 10};
  EXPECT_DOUBLE_EQ(computing.seconds(work), 200 + 5);
  EXPECT_FALSE(computing.reading(work));
}

}  // namespace
}  // namespace hadal::perf
