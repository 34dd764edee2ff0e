#include "hadal/train/log_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "hadal/io/json.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::train {
namespace log_file_test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

StepRecord step(Index n) {
  StepRecord r;
  r.step = n;
  r.tokens = static_cast<std::uint64_t>(n) * 2048;
  r.loss = 5.0 / static_cast<double>(n + 1);
  r.main = r.loss / 3;
  r.mtp = {r.loss * 0.7, 0.1};
  r.balance = 1.0000001;
  r.grad_norm = 0.1 * static_cast<double>(n);
  r.learning_rate = 2.2e-4;
  r.tokens_per_second = 2712.25;
  r.fma_share = 0.66;
  r.seconds = 0.75;
  r.load = {{1, {3, 0, 5}, 0.875, -0.001, 0.002, 1}, {2, {4, 4, 0}, 0.5, 0, 0, 1}};
  return r;
}

class LogLines : public ::testing::Test {
 protected:
  test::TemporaryDirectory dir;
  fs::path path = dir.path() / "log.jsonl";

  void put(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
  std::string text() const { return io::read_text_file(path); }
  std::vector<Index> steps() const {
    std::vector<Index> out;
    for (const StepRecord& r : read_log(path).steps) out.push_back(r.step);
    return out;
  }
};

TEST_F(LogLines, AStepIsOneLineOfTheDocumentedKeys) {
  EXPECT_EQ(to_line(step(4)),
            R"({"kind":"step","step":4,"tokens":8192,"loss":1.0,"main":0.3333333333333333,"mtp":[0.7,0.1],)"
            R"("balance":1.0000001,"grad_norm":0.4,"learning_rate":0.00022,"tokens_per_second":2712.25,)"
            R"("fma_share":0.66,"seconds":0.75,"skipped":false,"load":[)"
            R"({"layer":1,"max_vio":0.875,"bias_low":-0.001,"bias_high":0.002,"dead":1,"counts":[3,0,5]},)"
            R"({"layer":2,"max_vio":0.5,"bias_low":0.0,"bias_high":0.0,"dead":1,"counts":[4,4,0]}]})"
            "\n");
}

TEST_F(LogLines, AValidationHasTheLoadOfAllThatWasValidated) {
  const ValidationRecord r{4, 8192, 3.25, 1.125, {{1, {3, 0, 5}, 0.875, -0.001, 0.002, 1}}};
  const std::string line = to_line(r);
  EXPECT_EQ(line, R"({"kind":"validation","step":4,"tokens":8192,"nats_per_token":3.25,"bits_per_byte":1.125,"load":[)"
                  R"({"layer":1,"max_vio":0.875,"bias_low":-0.001,"bias_high":0.002,"dead":1,"counts":[3,0,5]}]})"
                  "\n");
  EXPECT_EQ(to_line(*parse_line(line)), line);
  // As earlier versions wrote it.
  const auto old =
      parse_line(R"({"kind":"validation","step":4,"tokens":8192,"nats_per_token":3.25,"bits_per_byte":1})");
  EXPECT_TRUE(std::get<ValidationRecord>(*old).load.empty());
  put(line);
  EXPECT_EQ(read_log(path).validation.at(0).load.at(0).max_vio, 0.875);
}

TEST_F(LogLines, EveryKindIsReadAsItWasWritten) {
  LogFile log(path, 0);
  log.write(step(1));
  log.write(ValidationRecord{1, 2048, 3.25, 1.125, {}});
  log.write(SampleRecord{1, 2048, "The sea", " is\n\"wide\" \xE2\x80\xA8\\ \x01"});
  log.write(NoteRecord{1, "rolled back"});
  const RunRecords r = read_log(path);
  ASSERT_EQ(r.steps.size(), 1u);
  EXPECT_EQ(r.unread, 0u);
  EXPECT_EQ(r.steps[0].tokens, 2048u);
  EXPECT_EQ(r.steps[0].loss, 2.5);
  EXPECT_EQ(r.steps[0].main, 2.5 / 3);
  EXPECT_THAT(r.steps[0].mtp, ElementsAre(2.5 * 0.7, 0.1));
  EXPECT_EQ(r.steps[0].load[1].max_vio, 0.5);
  EXPECT_THAT(r.last_loads.at(0)[0].counts, ElementsAre(3, 0, 5));
  EXPECT_EQ(r.validation.at(0).bits_per_byte, 1.125);
  EXPECT_EQ(r.samples.at(0).text, " is\n\"wide\" \xE2\x80\xA8\\ \x01");
  EXPECT_EQ(r.notes.at(0).text, "rolled back");
  const auto again = parse_line(to_line(step(7)));
  EXPECT_EQ(to_line(*again), to_line(step(7)));
}

TEST_F(LogLines, NumbersThatJsonHasNotAreNull) {
  StepRecord r = step(1);
  r.loss = kNaN;
  r.mtp = {std::numeric_limits<double>::infinity()};
  r.grad_norm = -std::numeric_limits<double>::infinity();
  r.load[0].max_vio = kNaN;
  const std::string line = to_line(r);
  EXPECT_THAT(line, HasSubstr(R"("loss":null)"));
  EXPECT_THAT(line, HasSubstr(R"("mtp":[null])"));
  EXPECT_THAT(line, HasSubstr(R"("grad_norm":null)"));
  const auto back = std::get<StepRecord>(*parse_line(line));
  EXPECT_TRUE(std::isnan(back.loss) && std::isnan(back.mtp[0]) && std::isnan(back.load[0].max_vio));
}

TEST_F(LogLines, TextThatIsNotUtf8IsWrittenWithReplacements) {
  const std::string line = to_line(SampleRecord{3, 1, "a\xFF", "\xC3"});
  EXPECT_EQ(std::get<SampleRecord>(*parse_line(line)).prompt, "a\xEF\xBF\xBD");
  EXPECT_EQ(std::get<SampleRecord>(*parse_line(line)).text, "\xEF\xBF\xBD");
}

TEST_F(LogLines, ResumeCutsLaterStepsOfEveryKindAndATornLastLine) {
  put(to_line(step(1)) + to_line(step(2)) + to_line(NoteRecord{2, "kept"}) + to_line(step(3)) +
      to_line(ValidationRecord{3, 1, 1, 1, {}}) + to_line(SampleRecord{3, 1, "a", "b"}) +
      R"({"kind":"step","step":2,"to)");
  LogFile(path, 2).write(step(3));
  EXPECT_EQ(text(), to_line(step(1)) + to_line(step(2)) + to_line(NoteRecord{2, "kept"}) + to_line(step(3)));
}

TEST_F(LogLines, ALineWithoutItsEndIsTornThoughItParses) {
  const std::string line = to_line(step(2));
  put(to_line(step(1)) + line.substr(0, line.size() - 1));
  EXPECT_THAT(steps(), ElementsAre(1));
  LogFile(path, 5).write(step(3));
  EXPECT_THAT(steps(), ElementsAre(1, 3));
}

TEST_F(LogLines, ANewRunKeepsNothing) {
  put(to_line(ValidationRecord{0, 0, 9, 9, {}}) + to_line(step(1)));
  const LogFile log(path, 0);
  EXPECT_EQ(text(), "");
}

TEST_F(LogLines, WhatIsNoRecordIsCountedWhenReadAndGoesAtAResume) {
  put("\n" + to_line(step(1)) + "[1]\n{\"kind\":\"step\"}\n{\"kind\":\"future\",\"step\":2}\n" + std::string(9, '\0') +
      "\n" + to_line(step(2)));
  EXPECT_THAT(steps(), ElementsAre(1, 2));
  EXPECT_EQ(read_log(path).unread, 5u);
  const LogFile log(path, 2);
  EXPECT_EQ(text(), to_line(step(1)) + "{\"kind\":\"future\",\"step\":2}\n" + to_line(step(2)));
}

TEST_F(LogLines, AnEmptyLogIsNoStepsAndNoLogIsAnError) {
  EXPECT_THAT(test::said([&] { read_log(path); }), HasSubstr("log.jsonl: cannot be opened: No such file"));
  put("");
  EXPECT_TRUE(read_log(path).steps.empty());
  EXPECT_EQ(read_log(path).unread, 0u);
}

TEST_F(LogLines, AFailedCutLeavesTheLogAsItWas) {
  put(to_line(step(1)) + to_line(step(2)));
  const std::string before = text();
  fs::create_directory(path.string() + ".tmp");
  std::ofstream(path.string() + ".tmp/in_the_way") << "x";
  EXPECT_THAT(test::said([&] { LogFile(path, 1); }), HasSubstr("log.jsonl.tmp: cannot be written"));
  EXPECT_EQ(text(), before);
}

// What a run writes for a step, of whatever kinds.
void write_step(LogFile& log, Index n) {
  if (n % 5 == 0) log.write(NoteRecord{n, "note of " + std::to_string(n)});
  log.write(step(n));
  if (n % 3 == 0) log.write(ValidationRecord{n, 1, 2.0 / static_cast<double>(n), 1, {}});
  if (n % 4 == 0) log.write(SampleRecord{n, 1, "p", "line\n" + std::to_string(n)});
}

TEST_F(LogLines, ALogInPiecesEqualsTheStraightOneWhereverItIsKilled) {
  constexpr Index kSteps = 30;
  {
    LogFile log(path, 0);
    for (Index n = 1; n <= kSteps; ++n) write_step(log, n);
  }
  const std::string straight = text();
  std::uint64_t state = 1;
  const auto random = [&](Index below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<Index>((state >> 33) % static_cast<std::uint64_t>(below));
  };
  for (int run = 0; run < 20; ++run) {
    Index saved = 0;
    while (saved < kSteps) {
      const Index stop = std::min(kSteps, saved + 1 + random(12));
      {
        LogFile log(path, saved);
        for (Index n = saved + 1; n <= stop; ++n) write_step(log, n);
      }
      if (stop == kSteps) break;
      saved += random(stop - saved + 1);  // the last checkpoint before the kill
      // The kill tears what was written behind the checkpoint anywhere.
      const std::string all = text();
      std::size_t safe = 0;
      for (std::size_t end = 0; (end = all.find('\n', end)) != std::string::npos; ++end) {
        const auto record = parse_line(std::string_view(all).substr(safe, end - safe));
        if (std::visit([](const auto& r) { return r.step; }, *record) > saved) break;
        safe = end + 1;
      }
      fs::resize_file(path, safe + static_cast<std::size_t>(random(static_cast<Index>(all.size() - safe) + 1)));
    }
    ASSERT_EQ(text(), straight) << "run " << run;
  }
}

}  // namespace
}  // namespace log_file_test
}  // namespace hadal::train
