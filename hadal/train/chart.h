// Pictures of numbers for an HTML page, as SVG inside of it: no script, colours by the page's classes (report_style.h).
#pragma once

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hadal/core/view.h"

namespace hadal::train {

// Text that is any bytes, so that it shows as it is: markup escaped, what is not UTF-8 or no character replaced.
std::string escape_html(std::string_view text);
// Puts a formatted text behind `to`.
template <class... Args>
void add_text(std::string& to, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(to), format, std::forward<Args>(args)...);
}
// Few digits, no trailing zeros: 3.142, 2.2e-4, 12.5k.
std::string short_number(double value);

// A range of values along one side of a picture.
struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<double> ticks;  // round numbers inside the range
  double tick_step = 0;       // between ticks; 0: each stands for itself

  double at(double value) const;         // 0 at low, 1 at high
  std::string label(double tick) const;  // with as many digits as tell ticks apart
};
// Around the finite values: `round_ends` moves the ends to ticks. A logarithmic one needs low > 0.
Axis make_axis(double low, double high, bool log, bool round_ends, int most_ticks);

struct Series {
  std::string name;
  std::vector<double> x, y;  // y may be NaN: not drawn
};

struct Chart {
  std::string title, unit;
  std::vector<Series> series;
  bool from_zero = false;      // the range of y includes 0
  std::vector<double> marks;   // values of x where something happened
  bool always_linear = false;  // whatever the range of y
};
// A figure with two pictures, over linear and over logarithmic steps; the page shows one. Many points become the mean
// of each small range of x, with a band from the smallest to the largest. y is logarithmic, and says so, where values
// are positive and differ by more than 50 times. Nothing if there is no finite value.
std::string to_html(const Chart& chart);

struct HeatMap {
  enum class Colours { kDiverging, kSequential };
  std::string title, unit, row_name, column_name;
  std::vector<std::string> rows;             // labels
  std::vector<double> values;                // [rows][columns]; NaN: no cell
  double first_column = 0, last_column = 0;  // what the ends of the rows stand for
  std::vector<double> bounds;            // a value is of the first class whose bound it does not exceed, or of the last
  std::vector<std::string> class_names;  // bounds + 1
  Colours colours = Colours::kSequential;

  Index columns() const { return rows.empty() ? 0 : static_cast<Index>(values.size() / rows.size()); }
};
std::string to_html(const HeatMap& map);

}  // namespace hadal::train
