#include "hadal/serve/http/host_check.h"

#include <gmock/gmock.h>

namespace hadal::serve {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

HttpRequest with(Headers headers) {
  HttpRequest out;
  out.headers = std::move(headers);
  return out;
}

TEST(HostCheck, OwnNamesWithAndWithoutPort) {
  for (const char* host :
       {"localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8000", "127.8.9.10", "[::1]:8000", "[::1]", "localhost."})
    EXPECT_EQ(host_fault(with({{"host", host}}), {}), "") << host;
}

TEST(HostCheck, NamesThatPagesCanChoose) {
  for (const char* host : {"evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "",
                           "[", "::1", "192.168.0.1", "0.0.0.0"})
    EXPECT_THAT(host_fault(with({{"host", host}}), {}), HasSubstr("none of this server's names")) << host;
  EXPECT_THAT(host_fault(with({{"host", "localhost"}, {"host", "evil.example"}}), {}), HasSubstr("more than one"));
}

TEST(HostCheck, BeyondLoopbackAddressesAreNoNames) {
  const HostRules rules{.hosts = {"hadal.lan"}, .loopback = false};
  for (const char* host : {"192.168.0.1:80", "[fe80::1]:80", "hadal.lan:443", "localhost"})
    EXPECT_EQ(host_fault(with({{"host", host}}), rules), "") << host;
  EXPECT_NE(host_fault(with({{"host", "evil.example"}}), rules), "");
  EXPECT_EQ(host_fault(with({{"host", "evil.example"}}), {.hosts = {"*"}}), "");
}

TEST(HostCheck, Origins) {
  const HostRules rules{.origins = {"https://chat.example"}};
  const auto asked = [&](const char* origin) { return with({{"host", "localhost:8000"}, {"origin", origin}}); };
  EXPECT_EQ(host_fault(asked("https://chat.example"), rules), "");
  EXPECT_EQ(host_fault(asked("http://localhost:8000"), rules), "");
  for (const char* origin : {"null", "https://evil.example", "https://chat.example.evil", "http://localhost:8001"})
    EXPECT_THAT(host_fault(asked(origin), rules), HasSubstr("is not allowed")) << origin;
  EXPECT_THAT(cors_headers(asked("https://evil.example"), rules), IsEmpty());
  EXPECT_EQ(cors_headers(asked("https://chat.example"), rules)[0].second, "https://chat.example");
  // A program that is no browser sends none.
  EXPECT_EQ(host_fault(with({{"host", "localhost"}}), rules), "");
}

}  // namespace
}  // namespace hadal::serve
