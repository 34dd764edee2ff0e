#include "hadal/train/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hadal::train {
namespace chart_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> labels(const Axis& a) {
  std::vector<std::string> out;
  for (const double t : a.ticks) out.push_back(a.label(t));
  return out;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

TEST(Axis, TicksAreRoundAndLabelsTellThemApart) {
  EXPECT_THAT(labels(make_axis(1.93, 10.4, false, true, 5)), ElementsAre("0", "2", "4", "6", "8", "10", "12"));
  EXPECT_THAT(labels(make_axis(3.0001, 3.0005, false, true, 5)),
              ElementsAre("3.0001", "3.0002", "3.0003", "3.0004", "3.0005"));
  EXPECT_THAT(labels(make_axis(0, 2.2e-4, false, true, 5)),
              ElementsAre("0", "5e-5", "1e-4", "1.5e-4", "2e-4", "2.5e-4"));
  EXPECT_THAT(labels(make_axis(1, 25000, false, false, 6)), ElementsAre("5k", "10k", "15k", "20k", "25k"));
  EXPECT_THAT(labels(make_axis(0, 2.1e6, false, false, 5)), ElementsAre("0", "0.5M", "1.0M", "1.5M", "2.0M"));
  EXPECT_THAT(labels(make_axis(-0.03, 0.02, false, true, 5)),
              ElementsAre("-0.03", "-0.02", "-0.01", "0", "0.01", "0.02"));
}

TEST(Axis, LogarithmicTicksArePowersOfTen) {
  EXPECT_THAT(labels(make_axis(1, 25000, true, false, 6)), ElementsAre("1", "10", "100", "1000", "10k"));
  EXPECT_THAT(labels(make_axis(1, 80, true, false, 6)), ElementsAre("1", "2", "5", "10", "20", "50"));
  EXPECT_THAT(labels(make_axis(200, 450, true, false, 4)), ElementsAre("200", "300", "400"));
  EXPECT_LE(make_axis(1e-12, 1e12, true, false, 6).ticks.size(), 7u);
}

TEST(Axis, OneValueHasARange) {
  for (const double v : {0.0, 3.0, -2.0, 1e-30, 1e30}) {
    const Axis a = make_axis(v, v, false, true, 5);
    EXPECT_LT(a.low, a.high);
    EXPECT_GT(a.at(v), 0);
    EXPECT_LT(a.at(v), 1);
    EXPECT_LE(a.ticks.size(), 8u);
  }
  EXPECT_NEAR(make_axis(7, 7, true, false, 5).at(7), 0.5, 1e-9);
}

TEST(ShortNumber, FewDigits) {
  EXPECT_EQ(short_number(3.14159), "3.142");
  EXPECT_EQ(short_number(2.2e-4), "2.2e-4");
  EXPECT_EQ(short_number(12500), "12.5k");
  EXPECT_EQ(short_number(-2.5e9), "-2.5G");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(std::nan("")), "–");
  EXPECT_EQ(short_number(-std::numeric_limits<double>::infinity()), "−∞");
}

TEST(EscapeHtml, NothingIsMarkupAndEveryByteIsSomeCharacter) {
  EXPECT_EQ(escape_html("<a href=\"x\">'&amp;'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape_html(std::string("a\0\x1b\n\t\xFFz\x7f", 8)), "a␀␛\n\t\uFFFDz␡");
}

TEST(Chart, DrawsFinitePointsOverLinearAndLogarithmicSteps) {
  const std::string html = to_html(Chart{"Loss", "nats", {{"ma<in", {1, 2, 3}, {3, std::nan(""), 2}}}, false, {2}});
  EXPECT_EQ(count(html, "<circle"), 4u);
  EXPECT_EQ(count(html, "class=\"mark\""), 2u);
  EXPECT_THAT(html, HasSubstr("<svg class=\"lin\""));
  EXPECT_THAT(html, HasSubstr("<svg class=\"log\""));
  EXPECT_THAT(html, HasSubstr("ma&lt;in <b>2</b>"));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("log scale")));
}

// The plot is 388 by 208, its upper left corner at 52, 8.
TEST(Chart, PointsAreWhereTheirValuesAre) {
  const std::string html = to_html(Chart{"Loss", "", {{"main", {1, 2, 3}, {0, 1, 2}}}, true, {2}});
  for (const char* part : {"cx=\"52.0\" cy=\"216.0\"", "cx=\"246.0\" cy=\"112.0\"", "cx=\"440.0\" cy=\"8.0\"",
                           "class=\"mark\" d=\"M246.0 8V216\""})
    EXPECT_THAT(html, HasSubstr(part));
}

TEST(Chart, PointsOfOneBinAreTheirMeanInABandFromTheSmallestToTheLargest) {
  const std::string html = to_html(Chart{"Loss", "", {{"main", {1, 1, 3}, {0, 2, 1}}}, true, {}});
  EXPECT_THAT(html, HasSubstr("d=\"M52.0 8.0L440.0 112.0L440.0 112.0L52.0 216.0Z\""));
  EXPECT_THAT(html, HasSubstr("d=\"M52.0 112.0L440.0 112.0\""));
}

TEST(Chart, WithoutAFiniteValueThereIsNone) {
  EXPECT_EQ(to_html(Chart{"Loss", "", {{"main", {1}, {std::nan("")}}}, true, {}}), "");
  EXPECT_EQ(to_html(Chart{"Loss", "", {{"main", {}, {}}}, true, {}}), "");
  EXPECT_EQ(to_html(Chart{}), "");
}

TEST(Chart, ManyPointsAreBinnedWithABandAndStaySmall) {
  Series s{"main", {}, {}};
  for (int i = 1; i <= 100000; ++i) {
    s.x.push_back(i);
    s.y.push_back(5 + i % 7);
  }
  const std::string html = to_html(Chart{"Loss", "", {s}, false, {}});
  EXPECT_EQ(count(html, "class=\"band"), 2u);
  EXPECT_EQ(count(html, "<circle"), 0u);
  EXPECT_LT(html.size(), 40000u);
}

TEST(Chart, ASpikeTurnsTheAxisLogarithmic) {
  EXPECT_THAT(to_html(Chart{"Norm", "", {{"n", {1, 2}, {1, 49}}}, true, {}}), Not(HasSubstr("(log scale)")));
  EXPECT_THAT(to_html(Chart{"Norm", "", {{"n", {1, 2}, {1, 51}}}, true, {}}), HasSubstr("(log scale)"));
  EXPECT_THAT(to_html(Chart{"Norm", "", {{"n", {1, 2, 3}, {0.5, 4000, 0.4}}}, true, {}}), HasSubstr("(log scale)"));
  EXPECT_THAT(to_html(Chart{"Rate", "", {{"r", {1, 2}, {1e-6, 1e-3}}}, true, {}, true}), Not(HasSubstr("log scale")));
}

TEST(Chart, StepZeroIsDrawnOverLogarithmicSteps) {
  const std::string html = to_html(Chart{"V", "", {{"v", {0, 10}, {3, 2}}}, false, {}});
  EXPECT_EQ(count(html, "<circle"), 4u);
  EXPECT_THAT(html, Not(HasSubstr("inf")));
}

TEST(HeatMap, NeighboursOfAClassAreOneRectangle) {
  HeatMap map;
  map.title = "Load";
  map.rows = {"1", "2"};
  map.values = {0.5, 0.5, 3, /**/ std::nan(""), 0.5, 1};
  map.last_column = 2;
  map.bounds = {1, 2};
  map.class_names = {"low", "mid", "high"};
  const std::string html = to_html(map);
  EXPECT_THAT(html, HasSubstr("<path class=\"q0\" d=\"M0 0h2v1h-2zM1 1h2v1h-2z\"/>"));
  EXPECT_THAT(html, HasSubstr("<path class=\"q1\" d=\"\"/>"));
  EXPECT_THAT(html, HasSubstr("<path class=\"q2\" d=\"M2 0h1v1h-1z\"/>"));
  EXPECT_EQ(to_html(HeatMap{}), "");
}

}  // namespace
}  // namespace chart_test
}  // namespace hadal::train
