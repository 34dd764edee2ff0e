#include "hadal/perf/phase_times.h"

#include <gtest/gtest.h>

namespace hadal::perf {
namespace {

TEST(PhaseTimes, EachPieceOfTimeIsChargedOnceToThePhaseThatEndsIt) {
  double now = 100;
  PhaseTimes times([&] { return now; });
  const auto after = [&](double seconds, std::string_view name) {
    now += seconds;
    times.on_value(name, {});
  };
  after(1, "attn_norm");
  after(2, "moe_out");
  after(4, "hidden");
  after(8, "a name that is in no table");
  after(16, "logits");
  now += 32;
  times.stop();
  EXPECT_EQ(times.seconds(Phase::kNorms), 5);
  EXPECT_EQ(times.seconds(Phase::kExperts), 2);
  EXPECT_EQ(times.seconds(Phase::kHead), 24);
  EXPECT_EQ(times.seconds(Phase::kOther), 32);
  EXPECT_EQ(times.seconds(Phase::kAttention), 0);
}

}  // namespace
}  // namespace hadal::perf
