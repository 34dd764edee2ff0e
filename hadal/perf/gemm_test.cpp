#include "hadal/perf/gemm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hadal::perf {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    parse_gemm_shapes(text, "shapes.txt");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(GemmShapes, LinesAreMNKAndMaybeAFormat) {
  const auto shapes = parse_gemm_shapes("# M N K\n\n1 1408 2048\n  8 576 2048 bf16 # kv_a\n4 3 2 #f32\n", "x");
  ASSERT_EQ(shapes.size(), 3u);
  EXPECT_EQ(shapes[0].n, 1408);
  EXPECT_EQ(shapes[0].format, "");
  EXPECT_EQ(shapes[1].m, 8);
  EXPECT_EQ(shapes[1].k, 2048);
  EXPECT_EQ(shapes[1].format, "bf16");
  EXPECT_EQ(shapes[2].format, "");
}

TEST(GemmShapes, FaultsNameTheLine) {
  EXPECT_THAT(error_of("1 2 3\n1 2\n"), HasSubstr("shapes.txt, line 2: \"1 2\" is not M N K"));
  EXPECT_THAT(error_of("0 2 3"), HasSubstr("line 1"));
  EXPECT_THAT(error_of("1 2 99999999999999999999"), HasSubstr("line 1"));
  EXPECT_THAT(error_of("1 2 3 fp4"), HasSubstr("format fp4 is not known"));
  EXPECT_THAT(error_of("1 2 3 fp8 5"), HasSubstr("has more than"));
  EXPECT_THAT(error_of("# nothing\n"), HasSubstr("has no line"));
}

TEST(Gemm, CountsBytesOfValuesAndScales) {
  Context ctx(1, Isa::kRef);
  const ReadTarget memory(1 << 20);
  RunOptions options;
  options.runs = 1;
  const Row fp8 = measure_gemm(ctx, memory, {2, 1100, 1500, "fp8"}, options, 0);
  EXPECT_EQ(fp8.bytes, 1100 * 1500 + 4 * 9 * 12);
  EXPECT_EQ(fp8.flops, 2.0 * 2 * 1100 * 1500);
  EXPECT_GT(fp8.value.median, 0);
  EXPECT_GT(fp8.limit, 0);
  EXPECT_EQ(measure_gemm(ctx, memory, {2, 1100, 1500, "bf16"}, options, 0).bytes, 2 * 1100 * 1500);
}

}  // namespace
}  // namespace hadal::perf
