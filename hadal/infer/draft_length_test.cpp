// A machine and a text that are known: the policy has to find what pays on them.
#include "hadal/infer/draft_length.h"

#include <gtest/gtest.h>

#include "hadal/core/random.h"

namespace hadal::infer {
namespace draft_length_test {
namespace {

struct World {
  double acceptance = 0.85;
  double row = 0.3;     // of a pass's first row, what each further one costs
  double draft = 0.05;  // a drafted token
  double noise = 0;     // up to so much of a pass
  Index sequences = 1;

  double pass(Index rows) const { return 1 + row * static_cast<double>(rows - 1); }
  double cost(Index length) const { return pass(sequences * (1 + length)) + draft * static_cast<double>(length); }
  double rate(Index length) const {
    double tokens = 1, right = 1;
    for (Index i = 0; i < length; ++i) tokens += right *= acceptance;
    return tokens / cost(length);
  }
};

// Tokens a second of each sequence over `steps`, and what came of the last choice.
double run(const World& world, Index steps, Index most, std::uint64_t seed = 1) {
  DraftLength policy(most);
  const Philox random(seed, 0);
  std::uint64_t draws = 0;
  double seconds = 0, tokens = 0;
  for (Index step = 0; step < steps; ++step) {
    const Index length = policy.choose(world.sequences);
    const double noise = 1 + world.noise * random.uniform(draws++);
    for (Index s = 0; s < world.sequences; ++s) {
      Index accepted = 0;
      while (accepted < length && random.uniform(draws++) < world.acceptance) ++accepted;
      tokens += static_cast<double>(1 + accepted) / static_cast<double>(world.sequences);
      if (length > 0) policy.verified(length, accepted);
    }
    policy.pass_took(world.sequences * (1 + length), world.pass(world.sequences * (1 + length)) * noise);
    if (length > 0) policy.drafts_took(length, world.draft * static_cast<double>(length));
    seconds += world.cost(length) * noise;
  }
  return tokens / seconds;
}

double best_rate(const World& world, Index most) {
  double best = 0;
  for (Index length = 0; length <= most; ++length) best = std::max(best, world.rate(length));
  return best;
}

TEST(DraftLength, FindsWhatPays) {
  for (const double acceptance : {0.3, 0.6, 0.85, 0.98})
    for (const double row : {0.05, 0.2, 0.6, 1.0})
      for (const Index sequences : {1, 4}) {
        const World world{.acceptance = acceptance, .row = row, .noise = 0.2, .sequences = sequences};
        // Noise makes every pass longer by a tenth in the mean.
        EXPECT_GT(run(world, 2000, 4) * 1.1, 0.93 * best_rate(world, 4))
            << "acceptance " << acceptance << ", row " << row << ", " << sequences << " sequences";
      }
}

TEST(DraftLength, NeverCostsMuchWhereItDoesNotPay) {
  for (const Index steps : {300, 3000})
    for (const double row : {0.4, 1.0}) {
      const World world{.acceptance = 0, .row = row};
      EXPECT_GT(run(world, steps, 3), 0.97 * world.rate(0)) << steps << " steps, row " << row;
    }
}

TEST(DraftLength, NoticesThatTheTextHasChanged) {
  DraftLength policy(1);
  policy.pass_took(1, 1);
  policy.pass_took(2, 1.3);
  policy.drafts_took(1, 0.05);
  for (int i = 0; i < 300; ++i)
    if (policy.choose(1) > 0) policy.verified(1, 0);
  EXPECT_EQ(policy.choose(1), 0);
  Index drafted = 0;
  for (int i = 0; i < 6000; ++i)
    if (policy.choose(1) > 0) policy.verified(1, 1), ++drafted;
  EXPECT_GT(drafted, 2000);
}

TEST(DraftLength, OffIsOff) {
  DraftLength policy(0);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(policy.choose(1), 0);
}

}  // namespace
}  // namespace draft_length_test
}  // namespace hadal::infer
