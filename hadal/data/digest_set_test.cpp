#include "hadal/data/digest_set.h"

#include <gmock/gmock.h>

#include <cstring>

#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

io::Digest digest_of_numbers(std::uint64_t low, std::uint64_t high) {
  io::Digest out{};
  std::memcpy(out.data(), &low, 8);
  std::memcpy(out.data() + 8, &high, 8);
  return out;
}

TEST(DigestSet, KnowsWhatWasThere) {
  const test::TemporaryDirectory folder;
  DigestSet set(folder.path(), 4);  // grows many times
  for (std::uint64_t i = 0; i < 50000; ++i) ASSERT_TRUE(set.insert(digest_of_numbers(i % 1000, i))) << i;
  for (std::uint64_t i = 0; i < 50000; ++i) ASSERT_FALSE(set.insert(digest_of_numbers(i % 1000, i))) << i;
  EXPECT_EQ(set.size(), 50000u);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(DigestSet, NeedsARoomThatIsThere) {
  EXPECT_THAT(test::said([] { DigestSet("/none/such"); }), testing::HasSubstr("cannot be written"));
}

}  // namespace
}  // namespace hadal::data
