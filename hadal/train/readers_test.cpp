// Runs as TensorBoard's readers get to see them: tests/clients/tensorboard_test.py calls this with a folder, part by
// part.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "hadal/train/run_log.h"

namespace hadal::train {
namespace readers_test {
namespace {

StepRecord step(Index n, double loss) {
  StepRecord r;
  r.step = n;
  r.tokens = static_cast<std::uint64_t>(n) * 2048;
  r.loss = loss + 1.0 / static_cast<double>(n);
  r.main = r.loss / 3;
  r.mtp = {r.loss / 7, 1e-30 * r.loss};
  r.balance = 1.00001;
  r.grad_norm = n == 9 ? HUGE_VAL : 0.1 * static_cast<double>(n);
  r.learning_rate = 2.2e-4 / static_cast<double>(n);
  r.load = {{1, {3, 0, 5}, 0.875, -0.001 * static_cast<double>(n), 0.002, 1}, {2, {4, 4, 0}, 0.5, 0, 0, 1}};
  return r;
}

void steps(RunLog& log, Index begin, Index end, double loss) {
  for (Index n = begin; n < end; ++n) log.write(step(n, loss));
}

class ForReaders : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* name = std::getenv("HADAL_RUN_FOLDER")) folder = name;
    if (folder.empty()) GTEST_SKIP() << "tests/clients/tensorboard_test.py runs it";
  }
  std::filesystem::path folder;
};

TEST_F(ForReaders, First) {
  RunLog log(folder, 0);
  steps(log, 1, 31, 5);
  for (const Index n : {10, 20, 30}) {
    log.write(ValidationRecord{n, 1, 2.0 / static_cast<double>(n), 1.5, step(n, 5).load});
    log.write(SampleRecord{n, 1, "# The", " <b>sea</b>\n* \xC3\xA4 \xFF" + std::to_string(n)});
    log.write(SampleRecord{n, 1, "second", " " + std::to_string(n)});
  }
}

// From the checkpoint of step 12, not as far as before, and with another interval of validation.
TEST_F(ForReaders, Resumed) {
  RunLog log(folder, 12);
  steps(log, 13, 26, 4);
  log.write(ValidationRecord{18, 1, 0.25, 1.25, {}});
}

}  // namespace
}  // namespace readers_test
}  // namespace hadal::train
