#include "hadal/perf/statistics.h"

#include <gtest/gtest.h>

#include "hadal/core/error.h"

namespace hadal::perf {
namespace {

TEST(Statistics, QuartilesInterpolateLikeNumpy) {
  const Spread s = spread_of({4, 1, 3, 2});  // numpy.percentile([1, 2, 3, 4], [25, 50, 75])
  EXPECT_DOUBLE_EQ(s.lower_quartile, 1.75);
  EXPECT_DOUBLE_EQ(s.median, 2.5);
  EXPECT_DOUBLE_EQ(s.upper_quartile, 3.25);
  EXPECT_EQ(s.runs, 4);
}

TEST(Statistics, OneValueIsItsOwnSpread) {
  const Spread s = spread_of({7});
  EXPECT_EQ(s.lower_quartile, 7);
  EXPECT_EQ(s.median, 7);
  EXPECT_EQ(s.upper_quartile, 7);
}

TEST(Statistics, AnOutlierDoesNotMoveTheMedian) {
  EXPECT_EQ(spread_of({5, 1000, 4, 6, 5}).median, 5);
}

TEST(Statistics, NothingIsAnError) {
  EXPECT_THROW(spread_of({}), Error);
}

}  // namespace
}  // namespace hadal::perf
