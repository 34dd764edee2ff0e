// The main of every test program: all tests, or with --file=hadal/ops/linear_test.cpp those of one file.
#include <gmock/gmock.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace {

// A filter for the tests that stand in `file`; empty: there are none.
std::string tests_of(std::string_view file) {
  std::string filter;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const testing::TestInfo& test = *suite.GetTestInfo(t);
      if (std::string_view(test.file()).ends_with(file)) filter += std::string(suite.name()) + "." + test.name() + ":";
    }
  }
  return filter;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  constexpr std::string_view kFile = "--file=";
  if (argc == 2 && std::string_view(argv[1]).starts_with(kFile)) {
    const std::string filter = tests_of(std::string_view(argv[1]).substr(kFile.size()));
    if (filter.empty()) {
      std::fprintf(stderr, "%s: there are no tests of that file here\n", argv[1]);
      return 2;
    }
    GTEST_FLAG_SET(filter, filter);
  } else if (argc > 1) {
    std::fprintf(stderr, "usage: %s [--file=PATH] [--gtest_...]\n", argv[0]);
    return 2;
  }
  return RUN_ALL_TESTS();
}
