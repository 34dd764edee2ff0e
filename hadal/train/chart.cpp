#include "hadal/train/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hadal/tokenizer/utf8.h"

namespace hadal::train {
namespace {

constexpr double kWidth = 460, kHeight = 250;  // of the picture; text is 12 high
constexpr double kLeft = 52, kRight = 20, kTop = 8, kBottom = 34;
constexpr int kBins = 160;         // along x
constexpr std::size_t kDots = 40;  // up to so many points each gets a dot
constexpr int kColours = 8;

struct Bin {
  double x = 0, mean = 0, low = 0, high = 0;
  Index points = 0;
};

std::vector<Bin> binned(const Series& s, const Axis& x) {
  std::vector<Bin> bins(kBins + 1);
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    if (!std::isfinite(s.y[i])) continue;
    Bin& b = bins[static_cast<std::size_t>(std::clamp(x.at(s.x[i]), 0.0, 1.0) * kBins)];
    b.low = b.points ? std::min(b.low, s.y[i]) : s.y[i];
    b.high = b.points ? std::max(b.high, s.y[i]) : s.y[i];
    b.x += s.x[i];
    b.mean += s.y[i];
    ++b.points;
  }
  std::erase_if(bins, [](const Bin& b) { return b.points == 0; });
  for (Bin& b : bins) {
    b.x /= static_cast<double>(b.points);
    b.mean /= static_cast<double>(b.points);
  }
  return bins;
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return low > high; }
};

Range range_of_y(const Chart& chart) {
  Range r;
  for (const Series& s : chart.series)
    for (const double v : s.y) r.add(v);
  return r;
}

Range range_of_x(const Chart& chart) {
  Range r;
  for (const Series& s : chart.series)
    for (const double v : s.x) r.add(v);
  return r;
}

class Picture {
 public:
  Picture(const Chart& chart, const Axis& x, const Axis& y) : chart_(chart), x_(x), y_(y) {}

  std::string svg() {
    add_text(out_, R"(<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">)", x_.log ? "log" : "lin", kWidth,
             kHeight, escape_html(chart_.title));
    grid();
    for (const double mark : chart_.marks)
      if (mark >= x_.low && mark <= x_.high)
        add_text(out_, R"(<path class="mark" d="M{:.1f} {}V{}"/>)", px(mark), kTop, kHeight - kBottom);
    for (std::size_t i = 0; i < chart_.series.size(); ++i) curve(chart_.series[i], static_cast<int>(i) % kColours);
    return out_ + "</svg>";
  }

 private:
  double px(double x) const { return kLeft + x_.at(std::max(x, x_.low)) * (kWidth - kLeft - kRight); }
  double py(double y) const { return kHeight - kBottom - y_.at(y) * (kHeight - kTop - kBottom); }

  void grid() {
    for (const double t : y_.ticks) {
      add_text(out_, R"(<path class="grid" d="M{} {:.1f}H{}"/>)", kLeft, py(t), kWidth - kRight);
      add_text(out_, R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 5, py(t) + 4,
               y_.label(t));
    }
    for (const double t : x_.ticks) {
      add_text(out_, R"(<path class="grid" d="M{:.1f} {}V{}"/>)", px(t), kTop, kHeight - kBottom + 3);
      add_text(out_, R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", px(t),
               kHeight - kBottom + 15, x_.label(t));
    }
    add_text(out_, R"(<text class="tick" x="{}" y="{}" text-anchor="end">step</text>)", kWidth - kRight, kHeight - 4);
  }

  void curve(const Series& s, int colour) {
    const std::vector<Bin> bins = binned(s, x_);
    if (std::any_of(bins.begin(), bins.end(), [](const Bin& b) { return b.points > 1; })) band(bins, colour);
    std::string path;
    for (const Bin& b : bins) add_text(path, "{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', px(b.x), py(b.mean));
    add_text(out_, R"(<path class="line s{}" d="{}"/>)", colour, path);
    if (bins.size() > kDots) return;
    for (const Bin& b : bins)
      add_text(out_, R"(<circle class="f{}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>)", colour, px(b.x), py(b.mean));
  }

  void band(const std::vector<Bin>& bins, int colour) {
    std::string path;
    for (const Bin& b : bins) add_text(path, "{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', px(b.x), py(b.high));
    for (auto b = bins.rbegin(); b != bins.rend(); ++b) add_text(path, "L{:.1f} {:.1f}", px(b->x), py(b->low));
    add_text(out_, R"(<path class="band f{}" d="{}Z"/>)", colour, path);
  }

  const Chart& chart_;
  const Axis& x_;
  const Axis& y_;
  std::string out_;
};

double last_finite(const std::vector<double>& values) {
  const auto it = std::find_if(values.rbegin(), values.rend(), [](double v) { return std::isfinite(v); });
  return it == values.rend() ? std::numeric_limits<double>::quiet_NaN() : *it;
}

std::string legend(const Chart& chart) {
  std::string out;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    add_text(out, R"(<span class="key"><i class="k{}"></i>{} <b>{}</b></span>)", i % kColours, escape_html(s.name),
             short_number(last_finite(s.y)));
  }
  return out;
}

Index class_of(const HeatMap& map, double value) {
  const auto it = std::find_if(map.bounds.begin(), map.bounds.end(), [&](double bound) { return value <= bound; });
  return it - map.bounds.begin();
}

// The cells of one class, neighbours of a row in one rectangle.
std::string cells(const HeatMap& map, Index wanted) {
  std::string path;
  const Index columns = map.columns();
  for (Index row = 0; row < static_cast<Index>(map.rows.size()); ++row) {
    Index begin = 0;
    const auto is_wanted = [&](Index column) {
      const double v = map.values[static_cast<std::size_t>(row * columns + column)];
      return !std::isnan(v) && class_of(map, v) == wanted;
    };
    for (Index end = 0; end <= columns; ++end) {
      if (end < columns && is_wanted(end)) continue;
      if (end > begin) add_text(path, "M{} {}h{}v1h-{}z", begin, row, end - begin, end - begin);
      begin = end + 1;
    }
  }
  return path;
}

std::string legend(const HeatMap& map, char family) {
  std::string out;
  for (std::size_t i = 0; i < map.class_names.size(); ++i)
    add_text(out, R"(<span class="key"><i class="{}{}"></i>{}</span>)", family, i, escape_html(map.class_names[i]));
  return out;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : tokenizer::replace_invalid_utf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if (byte == 0x7F || (byte < 0x20 && c != '\n' && c != '\t')) {
      tokenizer::append_utf8(out, byte == 0x7F ? 0x2421u : 0x2400u + byte);  // pictures of control characters
    } else {
      out += c;
    }
  }
  return out;
}

std::string to_html(const Chart& chart) {
  Range y = range_of_y(chart);
  const Range x = range_of_x(chart);
  if (y.empty() || x.empty()) return {};
  const bool log_y = !chart.always_linear && y.low > 0 && y.high > 50 * y.low;
  if (chart.from_zero && !log_y) y.add(0);
  const Axis vertical = make_axis(y.low, y.high, log_y, true, 5);
  std::string out;
  add_text(out, R"(<figure><figcaption><h3>{} <small>{}{}</small></h3><div class="keys">{}</div></figcaption>)",
           escape_html(chart.title), escape_html(chart.unit), log_y ? " (log scale)" : "", legend(chart));
  out += Picture(chart, make_axis(x.low, x.high, false, false, 6), vertical).svg();
  // Step 0, a validation before the first step, has no place among logarithms.
  out += Picture(chart, make_axis(std::max(x.low, 1.0), std::max(x.high, 1.0), true, false, 6), vertical).svg();
  return out + "</figure>";
}

std::string to_html(const HeatMap& map) {
  if (map.columns() == 0) return {};
  const char family = map.colours == HeatMap::Colours::kDiverging ? 'd' : 'q';
  const auto rows = static_cast<Index>(map.rows.size());
  const double row_height = std::clamp(200.0 / static_cast<double>(rows), 4.0, 22.0);
  const double width = kWidth - kLeft - kRight, height = row_height * static_cast<double>(rows);
  std::string out;
  add_text(out, R"(<figure><figcaption><h3>{} <small>{}</small></h3><div class="keys">{}</div></figcaption>)",
           escape_html(map.title), escape_html(map.unit), legend(map, family));
  add_text(out, R"(<svg viewBox="0 0 {} {:.1f}" role="img" aria-label="{}">)", kWidth, kTop + height + kBottom,
           escape_html(map.title));
  const Index every = std::max<Index>(1, static_cast<Index>(std::ceil(13 / row_height)));
  for (Index row = 0; row < rows; row += every)
    add_text(out, R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 5,
             kTop + (static_cast<double>(row) + 0.5) * row_height + 4,
             escape_html(map.rows[static_cast<std::size_t>(row)]));
  add_text(
      out,
      R"(<svg x="{}" y="{}" width="{}" height="{:.1f}" viewBox="0 0 {} {}" preserveAspectRatio="none" class="cells">)",
      kLeft, kTop, width, height, map.columns(), rows);
  for (std::size_t i = 0; i < map.class_names.size(); ++i)
    add_text(out, R"(<path class="{}{}" d="{}"/>)", family, i, cells(map, static_cast<Index>(i)));
  const double below = kTop + height + 14;
  add_text(out, R"(</svg><text class="tick" x="{}" y="{:.1f}">{}</text>)", kLeft, below,
           short_number(map.first_column));
  add_text(out, R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kWidth - kRight, below,
           short_number(map.last_column));
  add_text(out, R"(<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)", kLeft + width / 2, below,
           escape_html(map.column_name));
  add_text(out, R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 5, below,
           escape_html(map.row_name));
  return out + "</svg></figure>";
}

}  // namespace hadal::train
