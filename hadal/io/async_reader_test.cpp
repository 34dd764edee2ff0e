#include "hadal/io/async_reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "hadal/core/error.h"
#include "tests/support/temporary_directory.h"

namespace hadal::io {
namespace {

using ::testing::HasSubstr;
using Backend = AsyncReader::Backend;
constexpr std::uint64_t kPage = AsyncReader::kAlignment;

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
std::unique_ptr<std::byte, Free> pages(std::uint64_t count) {
  return std::unique_ptr<std::byte, Free>(static_cast<std::byte*>(std::aligned_alloc(kPage, count * kPage)));
}

char byte_at(std::uint64_t i) {
  return static_cast<char>(i * 2654435761u >> 13);
}

class AsyncReads : public ::testing::TestWithParam<std::tuple<Backend, const char*>> {
 protected:
  void SetUp() override {
    const std::string folder = std::get<1>(GetParam());
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "there is no " << folder;
    std::string name = folder + "/hadal-test-XXXXXX";
    path = ::mkdtemp(name.data());
    try {
      reader.emplace(std::get<0>(GetParam()));
    } catch (const Error& e) {
      GTEST_SKIP() << e.what();
    }
  }
  void TearDown() override {
    std::error_code ignored;
    if (!path.empty()) std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path file_of(std::uint64_t bytes) {
    std::string text(bytes, '\0');
    for (std::uint64_t i = 0; i < bytes; ++i) text[i] = byte_at(i);
    std::ofstream(path / "file", std::ios::binary) << text;
    return path / "file";
  }
  int open(const std::filesystem::path& file) { return reader->open(file, MappedFile(file).identity()); }
  static void expect_content(const AsyncReader::Read& r) {
    for (std::uint64_t i = 0; i < r.needed; ++i)
      ASSERT_EQ(static_cast<char>(r.to[i]), byte_at(r.offset + i)) << r.offset + i;
  }

  std::filesystem::path path;
  std::optional<AsyncReader> reader;
};

TEST_P(AsyncReads, ManyAtOnceBringTheRightBytes) {
  constexpr std::uint64_t kReads = 200;
  const int file = open(file_of((kReads + 3) * kPage));
  const auto memory = pages(3 * kReads);
  for (std::uint64_t i = 0; i < kReads; ++i)
    reader->submit({.file = file,
                    .offset = i * kPage,
                    .bytes = 3 * kPage,
                    .to = memory.get() + 3 * i * kPage,
                    .needed = 3 * kPage,
                    .tag = i},
                   i % 3 == 0);
  std::vector<int> seen(kReads);
  for (std::uint64_t i = 0; i < kReads; ++i) {
    const auto result = reader->wait();
    EXPECT_EQ(result.fault, "");
    expect_content(result.read);
    ++seen[result.read.tag];
  }
  EXPECT_THAT(seen, ::testing::Each(1));
  EXPECT_EQ(reader->outstanding(), 0u);
  EXPECT_FALSE(reader->poll());
}

TEST_P(AsyncReads, TheLastBlockMayBeShort) {
  const int file = open(file_of(kPage + 100));
  const auto memory = pages(2);
  reader->submit({.file = file, .offset = 0, .bytes = 2 * kPage, .to = memory.get(), .needed = kPage + 100}, true);
  const auto result = reader->wait();
  EXPECT_EQ(result.fault, "");
  expect_content(result.read);
}

TEST_P(AsyncReads, AFileShorterThanExpectedIsAFault) {
  const auto name = file_of(5 * kPage);
  const int file = open(name);
  std::filesystem::resize_file(name, kPage + 17);
  const auto memory = pages(4);
  for (const std::uint64_t offset : {std::uint64_t{0}, 3 * kPage}) {
    reader->submit({.file = file, .offset = offset, .bytes = 2 * kPage, .to = memory.get(), .needed = 2 * kPage}, true);
    EXPECT_THAT(reader->wait().fault,
                HasSubstr(offset == 0 ? "the file ends at byte 4113" : "the file ends at byte 12288"));
  }
  EXPECT_TRUE(reader->changed(file));
}

TEST_P(AsyncReads, AFileOfTheSameSizeWrittenAnewHasChanged) {
  const auto name = file_of(kPage);
  const int file = open(name);
  EXPECT_FALSE(reader->changed(file));
  std::filesystem::last_write_time(name, std::filesystem::last_write_time(name) + std::chrono::seconds(1));
  EXPECT_TRUE(reader->changed(file));
  const FileIdentity other{.device = 1, .inode = 2, .size = 3, .changed_ns = 4};
  EXPECT_THROW(reader->open(name, other), Error);
  EXPECT_THROW(reader->open(path / "none", other), Error);
}

TEST_P(AsyncReads, WhatHasNotStartedCanBeTakenBackOrHastened) {
  const int file = open(file_of(64 * kPage));
  const auto memory = pages(64);
  for (std::uint64_t i = 0; i < 64; ++i)
    reader->submit({.file = file,
                    .offset = i * kPage,
                    .bytes = kPage,
                    .to = memory.get() + i * kPage,
                    .needed = kPage,
                    .tag = i % 2},
                   false);
  reader->hasten(0);
  std::size_t expected = 64 - reader->cancel(1), came = 0;
  for (; came < expected; ++came) EXPECT_EQ(reader->wait().fault, "");
  EXPECT_EQ(reader->outstanding(), 0u);
  EXPECT_GE(came, 32u);
}

TEST_P(AsyncReads, DestructionWaitsForWhatIsInFlight) {
  const int file = open(file_of(64 * kPage));
  const auto memory = pages(8 * 64);
  for (int i = 0; i < 8; ++i)
    reader->submit(
        {.file = file, .offset = 0, .bytes = 64 * kPage, .to = memory.get() + i * 64 * kPage, .needed = 64 * kPage},
        true);
  reader.reset();
}

INSTANTIATE_TEST_SUITE_P(Backends, AsyncReads,
                         ::testing::Combine(::testing::Values(Backend::kAuto, Backend::kIoUring, Backend::kThreads),
                                            ::testing::Values("/tmp", "/dev/shm")),
                         [](const auto& p) {
                           const Backend b = std::get<0>(p.param);
                           return std::string(b == Backend::kAuto      ? "Auto"
                                              : b == Backend::kIoUring ? "IoUring"
                                                                       : "Threads") +
                                  (std::string(std::get<1>(p.param)) == "/tmp" ? "OnDisk" : "InMemory");
                         });

TEST(AsyncReader, RefusesReadsThatAreNotAligned) {
  const test::TemporaryDirectory dir;
  std::ofstream(dir.path() / "f") << std::string(8192, 'x');
  AsyncReader reader;
  const int file = reader.open(dir.path() / "f", MappedFile(dir.path() / "f").identity());
  const auto memory = pages(1);
  EXPECT_THROW(reader.submit({.file = file, .offset = 1, .bytes = kPage, .to = memory.get(), .needed = 1}, true),
               Error);
  EXPECT_THROW(reader.submit({.file = file, .offset = 0, .bytes = kPage, .to = memory.get() + 1, .needed = 1}, true),
               Error);
}

}  // namespace
}  // namespace hadal::io
