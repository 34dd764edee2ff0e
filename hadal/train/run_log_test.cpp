#include "hadal/train/run_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hadal/io/json.h"
#include "hadal/train/log_file.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::train {
namespace run_log_test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

StepRecord step(Index n) {
  StepRecord r;
  r.step = n;
  r.loss = 1.0 / static_cast<double>(n);
  return r;
}

TEST(RunLog, AKilledProcessHasWrittenAllThatItWasTold) {
  const test::TemporaryDirectory dir;
  const fs::path run = dir.path() / "a" / "run";
  const pid_t child = ::fork();
  if (child == 0) {
    RunLog log(run, 0);
    for (Index n = 1; n <= 100; ++n) log.write(step(n));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_log(run / "log.jsonl").steps.size(), 100u);
}

TEST(RunLog, AFullDiskIsOneSentenceAndTearsNothing) {
  const test::TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    RunLog log(dir.path(), 0);
    log.write(step(1));
    const rlimit small{fs::file_size(dir.path() / "log.jsonl") + 20, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &small);
    const std::string said = test::said([&] { log.write(step(2)); });
    ::_exit(said.find("log.jsonl: cannot be written: File too large") == std::string::npos);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(io::read_text_file(dir.path() / "log.jsonl"), to_line(step(1)));
}

TEST(RunLog, EachPromptOfAStepHasATagOfItsOwn) {
  const test::TemporaryDirectory dir;
  RunLog log(dir.path(), 0);
  for (const Index n : {1, 2}) {
    log.write(SampleRecord{n, 1, "first", "a"});
    log.write(SampleRecord{n, 1, "second", "b"});
  }
  std::string events;
  for (const auto& entry : fs::directory_iterator(dir.path()))
    if (entry.path().filename().string().starts_with("events.")) events += io::read_text_file(entry.path());
  const auto count = [&](const std::string& tag) {
    std::size_t n = 0;
    for (std::size_t at = 0; (at = events.find(tag, at)) != std::string::npos; at += tag.size()) ++n;
    return n;
  };
  EXPECT_EQ(count("sample/0"), 2u);
  EXPECT_EQ(count("sample/1"), 2u);
  EXPECT_EQ(count("sample/2"), 0u);
}

TEST(RunLog, ADirectoryThatCannotBeIsAnError) {
  const test::TemporaryDirectory dir;
  io::write_text_file_atomically(dir.path() / "file", "x");
  EXPECT_THAT(test::said([&] { RunLog(dir.path() / "file", 0); }), HasSubstr("file: cannot be made"));
}

}  // namespace
}  // namespace run_log_test
}  // namespace hadal::train
