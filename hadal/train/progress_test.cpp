#include "hadal/train/progress.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hadal::train {
namespace progress_test {
namespace {

TEST(ProgressLine, SaysWhatIsKnown) {
  StepRecord r;
  r.step = 120;
  r.loss = 3.2142;
  r.main = 2.9;
  r.mtp = {3.41, 3.5};
  r.grad_norm = 1.02;
  r.learning_rate = 2.2e-4;
  EXPECT_EQ(progress_line(r, 0, std::nan("")), "step 120  loss 3.214  main 2.9  mtp 3.41 3.5  grad 1.02  lr 2.2e-4");
  r.tokens_per_second = 2711.6;
  r.fma_share = 0.664;
  r.skipped = true;
  EXPECT_EQ(progress_line(r, 5000, 4810),
            "step 120/5000  loss 3.214  main 2.9  mtp 3.41 3.5  grad 1.02  lr 2.2e-4  2712 tok/s  66% of FMA  1 h 20 "
            "min left  SKIPPED");
}

TEST(ProgressLine, ShowsALossThatIsNotFinite) {
  StepRecord r;
  r.loss = std::nan("");
  EXPECT_NE(progress_line(r, 1, 1).find("loss nan"), std::string::npos);
  EXPECT_EQ(progress_line(r, 1, HUGE_VAL).find("left"), std::string::npos);
}

TEST(ValidationLine, HasTheGlobalMaxVioWhereThereAreExperts) {
  ValidationRecord r{200, 1, 0.82454, 0.477, {}};
  EXPECT_EQ(validation_line(r), "step 200: validation 0.8245 nats a token, 0.4770 bits a byte");
  r.load = {{.layer = 1, .counts = {}, .max_vio = 0.25}, {.layer = 2, .counts = {}, .max_vio = 0.5}};
  EXPECT_EQ(validation_line(r), "step 200: validation 0.8245 nats a token, 0.4770 bits a byte, MaxVio 0.375");
}

TEST(DurationText, TwoUnits) {
  EXPECT_EQ(duration_text(0.25), "0.25 s");
  EXPECT_EQ(duration_text(41.2), "41 s");
  EXPECT_EQ(duration_text(59.6), "1 min 0 s");
  EXPECT_EQ(duration_text(252), "4 min 12 s");
  EXPECT_EQ(duration_text(4810), "1 h 20 min");
  EXPECT_EQ(duration_text(3 * 86400 + 4 * 3600.0), "3 d 4 h");
  EXPECT_EQ(duration_text(std::nan("")), "–");
}

}  // namespace
}  // namespace progress_test
}  // namespace hadal::train
