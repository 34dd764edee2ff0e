#include "hadal/stream/use_counts.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "hadal/core/log.h"
#include "hadal/io/json.h"
#include "tests/support/temporary_directory.h"

namespace hadal::stream {
namespace {

class UseCountsFile : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }
  static UseCounts some() {
    UseCounts counts(2, 3);
    for (int i = 0; i < 5; ++i) counts.add(1, 2);
    counts.add(0, 1);
    return counts;
  }
  UseCounts loaded() const {
    UseCounts counts(2, 3);
    counts.load(file);
    return counts;
  }
  test::TemporaryDirectory dir;
  std::filesystem::path file = dir.path() / "new" / "counts";
};

TEST_F(UseCountsFile, AddsUpOverRuns) {
  EXPECT_EQ(loaded().count(1, 2), 0u);
  some().save(file);
  some().save(file);
  EXPECT_EQ(loaded().count(1, 2), 10u);
  EXPECT_EQ(loaded().count(0, 1), 2u);
  EXPECT_EQ(loaded().count(0, 0), 0u);
}

TEST_F(UseCountsFile, EveryFlippedBitIsNoticed) {
  some().save(file);
  const std::string good = io::read_text_file(file);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    std::ofstream(file) << bad;
    ASSERT_EQ(loaded().count(1, 2), 0u) << bit;
  }
  for (std::size_t length = 0; length < good.size(); ++length) {
    std::ofstream(file) << good.substr(0, length);
    ASSERT_EQ(loaded().count(1, 2), 0u) << length;
  }
}

TEST_F(UseCountsFile, OneOfAnotherModelIsIgnored) {
  some().save(file);
  UseCounts other(3, 2);
  other.load(file);
  EXPECT_EQ(other.count(1, 1), 0u);
}

// Whether the MTP layers are loaded too changes from run to run.
TEST_F(UseCountsFile, LayersBehindAreKept) {
  set_log_level(LogLevel::kWarning);
  UseCounts more(3, 3);
  more.add(2, 0);
  more.add(1, 2);
  testing::internal::CaptureStderr();
  more.save(file);
  some().save(file);
  EXPECT_EQ(loaded().count(1, 2), 6u);
  more.save(file);
  UseCounts all(3, 3);
  all.load(file);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(all.count(1, 2), 7u);
  EXPECT_EQ(all.count(2, 0), 2u);
  EXPECT_EQ(all.count(0, 1), 1u);
}

TEST_F(UseCountsFile, AFolderThatCannotBeWrittenIsNoError) {
  std::ofstream(dir.path() / "new") << "a file, not a folder";
  EXPECT_NO_THROW(some().save(file));
  EXPECT_NO_THROW(some().save(""));
}

TEST_F(UseCountsFile, IsWholeAtEveryMomentOfTwoWriters) {
  some().save(file);
  std::thread writer([&] {
    for (int i = 0; i < 50; ++i) some().save(file);
  });
  for (int i = 0; i < 50; ++i) EXPECT_GE(loaded().count(1, 2), 5u);
  writer.join();
}

}  // namespace
}  // namespace hadal::stream
