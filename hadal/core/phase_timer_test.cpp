#include "hadal/core/phase_timer.h"

#include <gtest/gtest.h>

#include <thread>

namespace hadal {
namespace {

void wait() {
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

TEST(PhaseTimer, ChargesTheInnermostScopeAlone) {
  PhaseTimes times;
  times.start();
  {
    PhaseScope outer(&times, Phase::kNorms);
    wait();
    {
      const PhaseScope inner(&times, Phase::kExperts);
      wait();
    }
    outer.enter(Phase::kHead);
    wait();
  }
  times.enter(Phase::kOther);
  for (const Phase phase : {Phase::kNorms, Phase::kExperts, Phase::kHead}) EXPECT_GE(times.seconds(phase), 0.002);
  EXPECT_EQ(times.seconds(Phase::kAttention), 0);
  times.start();
  EXPECT_EQ(times.seconds(Phase::kHead), 0);
}

TEST(PhaseTimer, WithoutTimesAScopeDoesNothing) {
  PhaseScope scope(nullptr, Phase::kHead);
  scope.enter(Phase::kNorms);
}

}  // namespace
}  // namespace hadal
