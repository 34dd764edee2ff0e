#include "hadal/serve/keys.h"

#include <gmock/gmock.h>

#include <fstream>

#include "hadal/core/error.h"
#include "hadal/serve/quotas.h"
#include "tests/support/temporary_directory.h"

namespace hadal::serve {
namespace {

using std::chrono::seconds;

TEST(Keys, AreFoundUntilTheyAreRevoked) {
  const test::TemporaryDirectory dir;
  const auto file = dir.path() / "a/keys.db";
  KeyStore store(file, true);
  EXPECT_FALSE(store.any());
  const std::string alice = store.add("alice", {.requests_per_minute = 3});
  const std::string bob = store.add("bob", {});
  EXPECT_NE(alice, bob);
  EXPECT_EQ(store.find(alice)->name, "alice");
  EXPECT_EQ(store.find(alice)->quota.requests_per_minute, 3);
  for (const std::string& wrong :
       {std::string(), alice.substr(1), alice + "x", std::string("hd-"), std::string(1000, 'x')})
    EXPECT_FALSE(store.find(wrong)) << wrong;
  EXPECT_THROW(store.add("alice", {}), Error);
  // Another process sees the same.
  KeyStore other(file, false);
  EXPECT_TRUE(other.revoke("alice"));
  EXPECT_FALSE(other.revoke("alice"));
  EXPECT_FALSE(store.find(alice));
  EXPECT_TRUE(store.find(bob));
  EXPECT_NE(store.add("alice", {}), alice);
}

TEST(Keys, WithoutAFileThereAreNone) {
  const test::TemporaryDirectory dir;
  const KeyStore store(dir.path() / "keys.db", false);
  EXPECT_FALSE(store.any());
  EXPECT_FALSE(store.find("hd-x"));
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "keys.db"));
}

TEST(Quotas, RequestsTokensAndThoseUnderWay) {
  Quotas quotas;
  const auto now = Quotas::Clock::now();
  const auto refused = [&](const Key& key, seconds at) {
    try {
      quotas.begin(key, now + at);
      return 0;
    } catch (const ApiError& e) {
      EXPECT_EQ(e.status, 429);
      return e.retry_after;
    }
  };
  const Key requests{.id = 1, .name = "r", .quota = {.requests_per_minute = 2}};
  EXPECT_EQ(refused(requests, seconds(0)), 0);
  EXPECT_EQ(refused(requests, seconds(10)), 0);
  EXPECT_EQ(refused(requests, seconds(20)), 41);
  EXPECT_EQ(refused(requests, seconds(60)), 0);  // the first one is a minute old
  const Key tokens{.id = 2, .name = "t", .quota = {.tokens_per_minute = 100}};
  EXPECT_EQ(refused(tokens, seconds(0)), 0);
  quotas.end(tokens, {60, 60}, now + seconds(5));
  EXPECT_EQ(refused(tokens, seconds(6)), 60);
  EXPECT_EQ(refused(tokens, seconds(65)), 0);
  const Key few{.id = 3, .name = "f", .quota = {.concurrent = 1}};
  EXPECT_EQ(refused(few, seconds(0)), 0);
  EXPECT_EQ(refused(few, seconds(1)), 1);
  quotas.end(few, {1, 1}, now + seconds(2));
  EXPECT_EQ(refused(few, seconds(2)), 0);
  EXPECT_EQ(refused({.id = 4, .name = "unlimited"}, seconds(0)), 0);
}

}  // namespace
}  // namespace hadal::serve
