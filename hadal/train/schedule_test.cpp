// Schedules against the numbers of the DeepSeek-V3 report, section 4.2.
#include "hadal/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "hadal/core/error.h"

namespace hadal::train {
namespace schedule_test {
namespace {

constexpr std::uint64_t kBillion = 1'000'000'000, kTrillion = 1000 * kBillion;

LearningRate report() {
  return {.peak = 2.2e-4,
          .low = 2.2e-5,
          .last = 7.3e-6,
          .warmup_steps = 2000,
          .constant_until = 10 * kTrillion,
          .cosine_until = 14'300 * kBillion,
          .low_until = 14'633 * kBillion};
}

TEST(LearningRate, WarmsUpOver2000StepsAndNoStepHasNone) {
  const LearningRate lr = report();
  EXPECT_DOUBLE_EQ(lr.at(0, 0), 2.2e-4 / 2000);
  EXPECT_DOUBLE_EQ(lr.at(999, 0), 1.1e-4);
  EXPECT_DOUBLE_EQ(lr.at(1998, 0), 2.2e-4 * 1999 / 2000);
  EXPECT_EQ(lr.at(1999, 0), 2.2e-4);
  EXPECT_EQ(lr.at(2000, 0), 2.2e-4);
}

TEST(LearningRate, IsConstantTo10TThenACosineOver4300B) {
  const LearningRate lr = report();
  EXPECT_EQ(lr.at(200'000, 10 * kTrillion - 1), 2.2e-4);
  EXPECT_NEAR(lr.at(200'000, 10 * kTrillion), 2.2e-4, 1e-18);
  // Half way the middle of both; the formula of the report's table elsewhere.
  EXPECT_NEAR(lr.at(200'000, 12'150 * kBillion), (2.2e-4 + 2.2e-5) / 2, 1e-16);
  for (const double t : {10.5, 11.0, 13.0, 14.2})
    EXPECT_NEAR(lr.at(200'000, static_cast<std::uint64_t>(t * 1e12)),
                2.2e-5 + 1.98e-4 * (1 + std::cos(M_PI * (t - 10) / 4.3)) / 2, 1e-15)
        << t;
  EXPECT_NEAR(lr.at(200'000, 14'300 * kBillion - 1), 2.2e-5, 1e-15);
}

TEST(LearningRate, EndsWithTwoConstantPhases) {
  const LearningRate lr = report();
  EXPECT_EQ(lr.at(230'000, 14'300 * kBillion), 2.2e-5);
  EXPECT_EQ(lr.at(230'000, 14'633 * kBillion - 1), 2.2e-5);
  EXPECT_EQ(lr.at(230'000, 14'633 * kBillion), 7.3e-6);
  EXPECT_EQ(lr.at(240'000, 20 * kTrillion), 7.3e-6);
}

TEST(LearningRate, PhasesMayBeEmpty) {
  const LearningRate constant{.peak = 1, .low = 1, .last = 1};
  EXPECT_EQ(constant.at(0, 0), 1);
  EXPECT_EQ(constant.at(5, 1000), 1);
  const LearningRate drop{
      .peak = 1, .low = 0.5, .last = 0.1, .constant_until = 10, .cosine_until = 10, .low_until = 10};
  EXPECT_EQ(drop.at(0, 9), 1);
  EXPECT_EQ(drop.at(0, 10), 0.1);
}

TEST(TokenTable, LambdaAndGammaOfTheReport) {
  const TokenTable lambda{{{0, 0.3}, {10 * kTrillion, 0.1}}}, gamma{{{0, 0.001}, {14'300 * kBillion, 0}}};
  lambda.check("lambda");
  gamma.check("gamma");
  EXPECT_EQ(lambda.at(0), 0.3);
  EXPECT_EQ(lambda.at(10 * kTrillion - 1), 0.3);
  EXPECT_EQ(lambda.at(10 * kTrillion), 0.1);
  EXPECT_EQ(lambda.at(14'800 * kBillion), 0.1);
  EXPECT_EQ(gamma.at(14'300 * kBillion - 1), 0.001);
  EXPECT_EQ(gamma.at(14'300 * kBillion), 0);
}

TEST(TokenTable, BatchRampOfTheReport) {
  const TokenTable batch = ramp(3072, 15360, 12, 469 * kBillion);
  batch.check("batch");
  EXPECT_EQ(batch.at(0), 3072);
  EXPECT_EQ(batch.at(469 * kBillion / 12 - 1), 3072);
  EXPECT_EQ(batch.at(469 * kBillion / 12 + 1), 4096);
  EXPECT_EQ(batch.at(469 * kBillion - 1), 14336);
  EXPECT_EQ(batch.at(469 * kBillion), 15360);
  EXPECT_EQ(batch.at(14'800 * kBillion), 15360);
  for (std::size_t i = 1; i < batch.entries.size(); ++i)
    EXPECT_EQ(batch.entries[i].value - batch.entries[i - 1].value, 1024);
}

TEST(TokenTable, EntriesOutOfOrderAreRefused) {
  const auto message = [](const TokenTable& table) {
    try {
      table.check("gamma");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(message({}), "gamma: no value from token 0 on");
  EXPECT_EQ(message({{{5, 1}}}), "gamma: no value from token 0 on");
  EXPECT_EQ(message({{{0, 1}, {7, 1}, {7, 2}}}), "gamma: the entry at 7 tokens comes after the one at 7");
  EXPECT_THROW(TokenTable{}.at(0), Error);
}

}  // namespace
}  // namespace schedule_test
}  // namespace hadal::train
