#include "hadal/perf/limits.h"

#include <gtest/gtest.h>

#include "hadal/perf/roofline.h"

namespace hadal::perf {
namespace {

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
