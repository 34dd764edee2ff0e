#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "hadal/io/json.h"
#include "hadal/train/run_log.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::train {
namespace report_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Report : public ::testing::Test {
 protected:
  test::TemporaryDirectory dir;

  std::string report() {
    write_report(dir.path());
    return io::read_text_file(dir.path() / "report.html");
  }
};

StepRecord step(Index n) {
  StepRecord r;
  r.step = n;
  r.tokens = static_cast<std::uint64_t>(n) * 2000000;
  r.main = 3;
  r.loss = 3.25;
  r.mtp = {4, 5};
  r.seconds = 60;
  r.load = {{5, {0, 8, 4}, 1, -0.25, 0.125, 1}};
  return r;
}

TEST_F(Report, HasTheCurvesTheLoadAndTheData) {
  RunLog log(dir.path(), 0);
  for (Index n = 1; n <= 100; ++n) log.write(step(n));
  log.write(
      ValidationRecord{100,
                       1,
                       2,
                       1.375,
                       {{.layer = 5, .counts = {}, .max_vio = 0.3125}, {.layer = 6, .counts = {}, .max_vio = 0.4375}}});
  log.write(SampleRecord{100, 1, "Once", " upon"});
  log.note(50, "the loss rose");
  const std::string html = report();
  for (const char* part : {"Loss <small>nats per token",
                           "main <b>3</b>",
                           "MTP 0 <b>4</b>",
                           "MTP 1 <b>5</b>",
                           "total <b>3.25</b>",
                           "Validation <small>bits per byte",
                           "Gradient norm",
                           "Learning rate",
                           "tokens per second",
                           "Load imbalance",
                           "validation, mean of layers <b>0.375</b>",
                           "<td>1.375</td><td>0.375</td>",
                           "highest <b>0.125</b>",
                           "lowest <b>-0.25</b>",
                           "last 100 steps",
                           "Steps (40 of 100, all are in log.jsonl)",
                           "<td>200,000,000</td>",
                           "<td>5</td><td>1 (2)</td><td>0 (0)</td><td>1</td><td>1</td>",
                           "Step 50: the loss rose",
                           "<b>Once</b> upon",
                           "<dd>1 h 40 min</dd>",
                           "<dd>1.375</dd>"})
    EXPECT_THAT(html, HasSubstr(part));
}

TEST_F(Report, TilesAndTablesSayWhatTheLogSays) {
  RunLog log(dir.path(), 0);
  for (Index n = 1; n <= 3; ++n) {
    StepRecord r = step(n);
    r.seconds = n == 1 ? 60 : 30;  // the first one is no measure
    r.fma_share = 0.66;
    log.write(r);
  }
  for (const double bits : {1.5, 1.25, 1.375}) log.write(ValidationRecord{3, 1, 2, bits, {}});
  const std::string html = report();
  for (const char* part : {"<dt>tokens per second</dt><dd>66.67k</dd>", "<dt>time of the steps</dt><dd>2 min 0 s</dd>",
                           "<dt>last bits per byte</dt><dd>1.375</dd>", "<dt>best bits per byte</dt><dd>1.25</dd>",
                           "% <b>66</b>", "<td>66</td>"})
    EXPECT_THAT(html, HasSubstr(part));
}

TEST_F(Report, LoadIsSummedOverTheLastStepsAndImbalanceAveragedOverTime) {
  RunLog log(dir.path(), 0);
  for (Index n = 1; n <= 240; ++n) {
    StepRecord r = step(n);
    const bool odd = n % 2 == 1;
    r.load = {{5, odd ? std::vector<Index>{9, 0, 0} : std::vector<Index>{0, 0, 3}, odd ? 0.2 : 0.6, 0, 0, 1}};
    log.write(r);
  }
  const std::string html = report();
  EXPECT_THAT(html, HasSubstr("<td>5</td><td>0 (2.25)</td><td>1 (0)</td>"));
  EXPECT_THAT(html, HasSubstr("last 100 steps"));
  EXPECT_THAT(html, HasSubstr("<path class=\"q2\" d=\"M0 0h120v1h-120z\"/>"));  // 0.4 in all of 120 columns
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

TEST_F(Report, NotesAndSkippedStepsAreMarkedInTheCurves) {
  RunLog log(dir.path(), 0);
  for (Index n = 1; n <= 5; ++n) {
    StepRecord r = step(n);
    r.skipped = n == 4;
    log.write(r);
  }
  const std::size_t one = count(report(), "class=\"mark\"");
  EXPECT_GT(one, 10u);
  log.note(2, "a note");
  EXPECT_EQ(count(report(), "class=\"mark\""), 2 * one);
}

TEST_F(Report, SamplesOfTheLastStepAreInSight) {
  RunLog log(dir.path(), 0);
  log.write(step(1));
  log.write(SampleRecord{1, 1, "p", "old text"});
  log.write(step(2));
  log.write(SampleRecord{2, 1, "p", "new text"});
  const std::string html = report();
  EXPECT_LT(html.find("new text"), html.find("Earlier samples"));
  EXPECT_LT(html.find("Earlier samples"), html.find("old text"));
}

TEST_F(Report, TextOfTheRunIsNoMarkup) {
  std::ofstream(dir.path() / "config.toml") << "name = \"</pre><script>a()</script>\"";
  RunLog log(dir.path(), 0);
  log.write(step(1));
  log.write(SampleRecord{1, 1, "<script>b()</script>", "<img src=x onerror=c()>\xFF"});
  log.note(1, "<script>d()</script>");
  const std::string html = report();
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;a()"));
  EXPECT_THAT(html, HasSubstr("&lt;img src=x"));
}

// Nothing that a browser would fetch, and a policy against it.
TEST_F(Report, NeedsNothingElse) {
  RunLog log(dir.path(), 0);
  log.write(step(1));
  const std::string html = report();
  for (const char* part : {"http:", "https:", "src=", "href=", "url(", "@import", "<script"})
    EXPECT_THAT(html, Not(HasSubstr(part)));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
}

TEST_F(Report, OfAnEmptyLogSaysSoAndOfNoneIsAnError) {
  EXPECT_THAT(test::said([&] { write_report(dir.path()); }), HasSubstr("log.jsonl: cannot be opened"));
  std::ofstream(dir.path() / "log.jsonl").flush();
  EXPECT_THAT(report(), HasSubstr("The log has no steps yet."));
}

TEST_F(Report, NumbersThatAreNotFiniteAreCountedAndLeftOut) {
  RunLog log(dir.path(), 0);
  for (Index n = 1; n <= 3; ++n) {
    StepRecord r = step(n);
    if (n == 2) {
      r.loss = r.main = r.grad_norm = std::nan("");
      r.mtp[0] = std::numeric_limits<double>::infinity();
      r.skipped = true;
    }
    log.write(r);
  }
  const std::string html = report();
  EXPECT_THAT(html, HasSubstr("<dt>steps not finite</dt><dd>1</dd>"));
  EXPECT_THAT(html, HasSubstr("<dt>skipped steps</dt><dd>1</dd>"));
  EXPECT_THAT(html, HasSubstr("<td>skipped</td>"));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
}

TEST_F(Report, WhatCannotBeReadIsSaid) {
  {
    RunLog(dir.path(), 0).write(step(1));
  }
  std::ofstream(dir.path() / "log.jsonl", std::ios::app) << "garbage\n{\"kind\":\"step\",\"st";
  EXPECT_THAT(report(), HasSubstr("1 lines of log.jsonl could not be read."));
}

// Layers may come and go between steps (a log of another configuration).
TEST_F(Report, LoadsOfDifferentShapesDoNoHarm) {
  RunLog log(dir.path(), 0);
  log.write(step(1));
  StepRecord r = step(2);
  r.load.push_back({6, {1, 1, 1, 1}, 0, 0, 0, 0});
  r.load[0].counts.clear();
  log.write(r);
  r = step(3);
  r.load.clear();
  r.mtp.clear();
  log.write(r);
  EXPECT_THAT(report(), HasSubstr("<td>6</td><td>0 (1)</td>"));
}

}  // namespace
}  // namespace report_test
}  // namespace hadal::train
