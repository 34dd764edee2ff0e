#include "hadal/perf/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hadal/core/error.h"

namespace hadal::perf {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Row row(const std::string& name, double value, double limit, const std::string& unit = "tok/s") {
  Row r{.name = name, .unit = unit, .value = {value, value * 0.9, value * 1.1, 5}, .limit = limit};
  r.limited_by = limit > 0 ? "read-avx2" : "";
  return r;
}

Report report(std::vector<Row> rows) {
  return {"decode", {{"processor", "test"}, {"cores", 2}, {"load", 0.5}}, std::move(rows)};
}

std::string error_of(const Json& json) {
  try {
    report_from_json(json, "old.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Report, JsonComesBackAsItWas) {
  Row full = row("decode depth=0", 19.25, 21.5);
  full.bytes = 2.377e9;
  full.flops = 4.6e9;
  full.attention_flops = 3.85e9;
  full.cache_bytes = 2.5e8;
  full.rates = {{"read-avx2", 51.3}, {"fma-avx2", 260.1}};
  full.ratios = {{"fma-avx2", 0.25}};
  const Report old = report({full, row("prompt", 100, 0)});
  const Json json = Json::parse(to_json(old).dump());
  const Report back = report_from_json(json, "x");
  EXPECT_EQ(to_json(back), json);
  EXPECT_EQ(back.rows[0].ratios.at("fma-avx2"), 0.25);
  EXPECT_DOUBLE_EQ(back.rows[0].ratio(), 19.25 / 21.5);
}

TEST(Report, OfTimesLessIsBetter) {
  EXPECT_DOUBLE_EQ(row("a", 4, 3, "ms").ratio(), 0.75);
  EXPECT_DOUBLE_EQ(row("a", 3, 4).ratio(), 0.75);
  EXPECT_EQ(row("a", 3, 0).ratio(), 0);
}

TEST(Report, ForeignFilesAreNamedWithTheField) {
  EXPECT_THAT(error_of(Json::array()), HasSubstr("old.json: \"schema\" is missing"));
  EXPECT_THAT(error_of({{"schema", 99}}), HasSubstr("\"schema\" is 99"));
  EXPECT_THAT(error_of({{"schema", "one"}}), HasSubstr("another type"));
  Json json = to_json(report({row("a", 1, 1)}));
  json["rows"][0].erase("median");
  EXPECT_THAT(error_of(json), HasSubstr("old.json, rows[0]: \"median\" is missing"));
  json["rows"] = 3;
  EXPECT_THAT(error_of(json), HasSubstr("\"rows\" is not a list"));
}

TEST(Report, TablesLeaveOutColumnsThatNoRowFills) {
  EXPECT_THAT(to_table(report({row("a", 1, 2)})), HasSubstr("reached"));
  EXPECT_THAT(to_table(report({row("a", 1, 0)})), Not(HasSubstr("reached")));
  EXPECT_THAT(to_markdown(report({row("a", 1, 2)})), HasSubstr("| a | 1.000 | 0.900 .. 1.100 | tok/s |"));
}

TEST(Compare, ARowIsSlowerByItsShareOfTheLimit) {
  const Report old =
      report({row("same", 10, 20), row("machine slower", 10, 20), row("slower", 10, 20), row("gone", 1, 2)});
  const Report now =
      report({row("same", 9.5, 20), row("machine slower", 5, 10), row("slower", 17, 40), row("new", 1, 2)});
  const std::vector<Change> changes = compare(old, now);
  ASSERT_EQ(changes.size(), 3u);
  EXPECT_FALSE(changes[0].slower());
  EXPECT_FALSE(changes[1].slower());
  EXPECT_DOUBLE_EQ(changes[1].speed(), 0.5);
  EXPECT_DOUBLE_EQ(changes[1].relative_speed(), 1);
  EXPECT_TRUE(changes[2].slower());  // faster, but on a machine twice as fast
  EXPECT_THAT(to_table(changes), HasSubstr("slower"));
  EXPECT_THAT(to_markdown(changes), HasSubstr("| slower |"));
}

TEST(Compare, ATenthIsTolerated) {
  const auto slower = [](double old_value, double new_value, const char* unit) {
    return compare(report({row("a", old_value, 100, unit)}), report({row("a", new_value, 100, unit)}))[0].slower();
  };
  EXPECT_FALSE(slower(100, 90.1, "tok/s"));
  EXPECT_TRUE(slower(100, 89.9, "tok/s"));
  EXPECT_FALSE(slower(100, 111, "ms"));
  EXPECT_TRUE(slower(100, 112, "ms"));
}

TEST(Compare, WithoutALimitNothingIsSlower) {
  const auto changes = compare(report({row("a", 10, 0)}), report({row("a", 1, 0)}));
  EXPECT_FALSE(changes[0].slower());
  EXPECT_DOUBLE_EQ(changes[0].speed(), 0.1);
}

}  // namespace
}  // namespace hadal::perf
