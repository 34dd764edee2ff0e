#include "hadal/kernels/limits.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "hadal/core/context.h"

namespace hadal::kernels {
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
      avx512::read_loop(data.data(), size, &read);
      EXPECT_EQ(read, words) << size;
    }
    if (size % 512 == 0 && isa_supported(Isa::kAvx2)) {
      avx2::read_loop(data.data(), size, &read);
      EXPECT_EQ(read, words) << size;
    }
    if (size % 512 == 0) {
      ref::read_loop(data.data(), size, &read);
      EXPECT_EQ(read, words) << size;
    }
  }
}

// Chains start at 0, 1, 2, ... and tend to 1: their sum tells that all of them ran.
TEST(FmaLoop, RunsAllItsChains) {
  float sink = 0;
  EXPECT_EQ(ref::fma_loop(20000, &sink), 20000.0 * 8 * 2);
  EXPECT_NEAR(sink, 8, 0.01);
  if (isa_supported(Isa::kAvx2)) {
    EXPECT_EQ(avx2::fma_loop(20000, &sink), 20000.0 * 12 * 8 * 2);
    EXPECT_NEAR(sink, 12, 0.01);
  }
  if (isa_supported(Isa::kAvx512)) {
    EXPECT_EQ(avx512::fma_loop(20000, &sink), 20000.0 * 16 * 16 * 2);
    EXPECT_NEAR(sink, 16, 0.01);
  }
  if (isa_supported(Isa::kAvx512Bf16)) {
    EXPECT_EQ(avx512bf16::bf16_dot_loop(8, &sink), 8.0 * 16 * 32 * 2);
    EXPECT_EQ(avx512bf16::int8_dot_loop(8, &sink), 8.0 * 16 * 64 * 2);
    EXPECT_EQ(sink, 120);  // 0 + 1 + ... + 15, products cancel
  }
}

}  // namespace
}  // namespace hadal::kernels
