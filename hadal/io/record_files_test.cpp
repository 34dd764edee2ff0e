#include "hadal/io/record_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "hadal/core/error.h"
#include "tests/support/temporary_directory.h"

namespace hadal::io {
namespace record_files_test {
namespace {

using ::testing::HasSubstr;

const Digest kOwner = Sha256().text("owner").finish();
const Digest kOther = Sha256().text("other").finish();

Digest named(std::uint64_t i) {
  return Sha256().number(i).finish();
}

std::vector<std::byte> content(std::uint64_t i, std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::size_t k = 0; k < size; ++k) out[k] = static_cast<std::byte>(i * 31 + k * k);
  return out;
}

std::string error_of(std::span<const std::byte> file) {
  try {
    parse_record(file, kOwner, named(1));
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

class Records : public ::testing::Test {
 protected:
  test::TemporaryDirectory dir;
  std::filesystem::path path = dir.path() / "kv";

  std::vector<std::filesystem::path> files(const std::string& kind = ".record") const {
    std::vector<std::filesystem::path> out;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
      if (entry.path().extension() == kind) out.push_back(entry.path());
    return out;
  }
};

TEST(Sha256, IsThePublishedFunction) {
  EXPECT_EQ(to_hex(Sha256().bytes(std::as_bytes(std::span("abc", 3))).finish()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4
  EXPECT_NE(Sha256().text("ab").text("c").finish(), Sha256().text("a").text("bc").finish());
  EXPECT_EQ(digest_from_hex(to_hex(kOwner)), kOwner);
  EXPECT_FALSE(digest_from_hex(to_hex(kOwner).substr(1)));
  EXPECT_FALSE(digest_from_hex(std::string(64, 'G')));
}

TEST(ParseRecord, RefusesEveryChangedByteAndEveryLength) {
  const std::vector<std::byte> record = content(1, 40);
  std::vector<std::byte> file = record_header(kOwner, named(1), record);
  file.insert(file.end(), record.begin(), record.end());
  const auto parsed = parse_record(file, kOwner, named(1));
  EXPECT_TRUE(std::equal(parsed.begin(), parsed.end(), record.begin(), record.end()));
  for (std::size_t i = 0; i < file.size(); ++i) {
    file[i] ^= std::byte{4};
    EXPECT_NE(error_of(file), "") << i;
    file[i] ^= std::byte{4};
    EXPECT_NE(error_of(std::span(file).first(i)), "") << i;
  }
  file.push_back({});
  EXPECT_THAT(error_of(file), HasSubstr("longer than it says"));
}

TEST_F(Records, AreFoundByLaterProcessesOfTheSameOwner) {
  {
    RecordFiles files(path, 1 << 20, kOwner);
    EXPECT_FALSE(files.contains(named(1)));
    EXPECT_FALSE(files.read(named(1)));
    files.write(named(1), content(1, 1000));
    files.write(named(2), {});
    EXPECT_EQ(files.read(named(1)), content(1, 1000));
  }
  {
    RecordFiles other(path, 1 << 20, kOther);
    EXPECT_FALSE(other.contains(named(1)));
    EXPECT_EQ(other.bytes(), 1000 + 2 * kRecordHeader);
    other.write(named(1), content(7, 10));
    EXPECT_EQ(other.size(), 1u);
  }
  RecordFiles files(path, 1 << 20, kOwner);
  EXPECT_EQ(files.size(), 2u);
  EXPECT_EQ(files.read(named(1)), content(1, 1000));
  EXPECT_EQ(files.read(named(2)), std::vector<std::byte>());
}

TEST_F(Records, OnlyTheOwnerCanRead) {
  ::umask(0);
  RecordFiles files(path, 1 << 20, kOwner);
  files.write(named(1), content(1, 10));
  struct stat about{};
  ASSERT_EQ(::stat(this->files().at(0).c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(path.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0700u);
}

TEST_F(Records, TheOneUsedLongestAgoGoesFirst) {
  const std::uint64_t each = 1000 + kRecordHeader;
  {
    RecordFiles files(path, 3 * each, kOwner);
    for (std::uint64_t i = 0; i < 3; ++i) files.write(named(i), content(i, 1000));
    EXPECT_TRUE(files.read(named(0)));
    files.use(std::vector{named(0), named(2)});
    files.write(named(3), content(3, 1000));
    EXPECT_FALSE(files.contains(named(1)));
    files.write(named(4), content(4, 1000));
    EXPECT_FALSE(files.contains(named(2)));  // it is behind 0
    EXPECT_TRUE(files.contains(named(0)));
    EXPECT_EQ(files.bytes(), 3 * each);
    files.write(named(5), content(5, 4000));  // larger than all that there may be
    EXPECT_FALSE(files.contains(named(5)));
    files.use(std::vector{named(3), named(4)});
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a file's time is that coarse
    files.use(std::vector{named(0)});
  }
  RecordFiles smaller(path, each, kOwner);
  EXPECT_TRUE(smaller.contains(named(0)));
  EXPECT_EQ(smaller.size(), 1u);
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(Records, WhatIsDamagedIsRemoved) {
  RecordFiles files(path, 1 << 20, kOwner);
  for (std::uint64_t i = 0; i < 3; ++i) files.write(named(i), content(i, 1000));
  const auto file_of = [&](std::uint64_t i) {
    return path / to_hex(kOwner).substr(0, 16) / (to_hex(named(i)) + ".record");
  };
  std::filesystem::resize_file(file_of(0), 500);
  std::fstream(file_of(1), std::ios::in | std::ios::out | std::ios::binary).seekp(600).put('x');
  std::filesystem::remove(file_of(2));
  for (std::uint64_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(files.read(named(i)));
    EXPECT_FALSE(files.contains(named(i)));
  }
  EXPECT_EQ(files.bytes(), 0u);
  EXPECT_TRUE(this->files().empty());
  files.write(named(1), content(1, 1000));
  EXPECT_EQ(files.read(named(1)), content(1, 1000));
}

TEST_F(Records, ADirectoryIsOneProcessesAndOthersFilesAreLeftAlone) {
  std::filesystem::create_directories(path / "photos");
  std::ofstream(path / "photos" / (to_hex(named(1)) + ".record")) << "mine";
  std::ofstream(path / "notes.txt") << "mine";
  {
    RecordFiles files(path, 200, kOwner);
    files.write(named(1), content(1, 10));
    try {
      RecordFiles again(path, 200, kOwner);
      ADD_FAILURE() << "two at once";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("is used by another process; name another directory"));
    }
  }
  std::ofstream(path / to_hex(kOwner).substr(0, 16) / (to_hex(named(9)) + ".tmp")) << "cut off";
  RecordFiles files(path, 0, kOwner);
  EXPECT_TRUE(this->files(".tmp").empty());
  EXPECT_TRUE(std::filesystem::exists(path / "photos" / (to_hex(named(1)) + ".record")));
  EXPECT_TRUE(std::filesystem::exists(path / "notes.txt"));
  EXPECT_EQ(files.bytes(), 0u);
}

TEST_F(Records, ADiskThatIsFullLosesNothing) {
  RecordFiles files(path, 1 << 20, kOwner);
  files.write(named(1), content(1, 1000));
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{3000, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(files.write(named(2), content(2, 100000)), Error);
  ::setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_FALSE(files.contains(named(2)));
  EXPECT_TRUE(this->files(".tmp").empty());
  EXPECT_EQ(files.read(named(1)), content(1, 1000));
}

// A process that writes, over and over, is killed at any moment: whatever is there is as it was written.
TEST_F(Records, KilledAtAHundredMomentsWhatIsThereIsWhole) {
  std::mt19937 random(3);
  std::size_t most = 0;
  for (int kill = 0; kill < 100; ++kill) {
    const pid_t child = ::fork();
    if (child == 0) {
      RecordFiles files(path, 1 << 21, kOwner);
      for (std::uint64_t i = static_cast<std::uint64_t>(kill) * 7;; ++i) {
        files.write(named(i), content(i, 1000 + i % 97 * 1000));
        files.read(named(i / 2));
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500 + random() % 8000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    RecordFiles files(path, 1 << 21, kOwner);
    EXPECT_TRUE(this->files(".tmp").empty());
    ASSERT_EQ(this->files().size(), files.size());
    std::size_t found = 0;
    for (std::uint64_t i = 0; found < files.size() && i < 100000; ++i) {
      if (!files.contains(named(i))) continue;
      ++found;
      ASSERT_EQ(files.read(named(i)), content(i, 1000 + i % 97 * 1000));
    }
    EXPECT_EQ(found, files.size());
    most = std::max(most, found);
  }
  EXPECT_GT(most, 0u);
}

}  // namespace
}  // namespace record_files_test
}  // namespace hadal::io
