#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "hadal/train/chart.h"

namespace hadal::train {
namespace {

// The smallest of 1, 2, 5 times a power of ten that is at least `value`.
double round_up(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double m : {1.0, 2.0, 5.0})
    if (m * power >= value * (1 - 1e-9)) return m * power;
  return 10 * power;
}

void linear_ticks(Axis& a, double step) {
  a.tick_step = step;
  const double first = std::ceil(a.low / a.tick_step - 1e-9), last = std::floor(a.high / a.tick_step + 1e-9);
  for (double i = first; i <= last; ++i) a.ticks.push_back(i * a.tick_step + 0.0);  // no -0
}

// Powers of ten, every second or third if there are many; with 2 and 5 between if there are few.
void log_ticks(Axis& a, int most) {
  const int first = static_cast<int>(std::floor(std::log10(a.low) + 1e-9));
  const int last = static_cast<int>(std::ceil(std::log10(a.high) - 1e-9));
  const int stride = std::max(1, (last - first + most - 1) / most);
  const std::vector<double> inner = last - first <= most / 3 ? std::vector<double>{1, 2, 5} : std::vector<double>{1};
  for (int power = first; power <= last; power += stride)
    for (const double m : inner) {
      const double tick = m * std::pow(10, power);
      if (tick >= a.low * (1 - 1e-9) && tick <= a.high * (1 + 1e-9)) a.ticks.push_back(tick);
    }
  if (a.ticks.size() >= 2) return;
  a.ticks.clear();
  linear_ticks(a, round_up((a.high - a.low) / most));
}

// 1.50e-05 is 1.5e-5.
std::string tidy_exponent(std::string text) {
  const auto e = text.find('e');
  if (e == std::string::npos) return text;
  std::string mantissa = text.substr(0, e);
  if (mantissa.find('.') != std::string::npos) {
    mantissa.erase(mantissa.find_last_not_of('0') + 1);
    if (mantissa.back() == '.') mantissa.pop_back();
  }
  const int exponent = std::stoi(text.substr(e + 1));
  return fmt::format("{}e{}", mantissa, exponent);
}

}  // namespace

std::string short_number(double v) {
  if (std::isnan(v)) return "–";
  if (std::isinf(v)) return v > 0 ? "∞" : "−∞";
  const double size = std::abs(v);
  for (const auto& [unit, name] : {std::pair{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}})
    if (size >= unit && size < 1e15) return fmt::format("{:.4g}{}", v / (unit == 1e4 ? 1e3 : unit), name);
  if (size != 0 && (size < 1e-3 || size >= 1e15)) return tidy_exponent(fmt::format("{:.2e}", v));
  return fmt::format("{:.4g}", v);
}

double Axis::at(double value) const {
  return log ? (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)) : (value - low) / (high - low);
}

std::string Axis::label(double tick) const {
  if (tick_step == 0 || tick == 0) return short_number(tick);
  const double size = std::max(std::abs(low), std::abs(high));
  const int digit = static_cast<int>(std::floor(std::log10(tick_step) + 1e-9));
  if (size >= 1e4) {
    const auto [unit, name] = size >= 1e12  ? std::pair{1e12, "T"}
                              : size >= 1e9 ? std::pair{1e9, "G"}
                              : size >= 1e6 ? std::pair{1e6, "M"}
                                            : std::pair{1e3, "k"};
    const int decimals = std::max(0, static_cast<int>(std::round(std::log10(unit))) - digit);
    return fmt::format("{:.{}f}{}", tick / unit, std::min(decimals, 6), name);
  }
  if (size < 1e-2) {
    const int digits = static_cast<int>(std::floor(std::log10(std::abs(tick)) + 1e-9)) - digit;
    return tidy_exponent(fmt::format("{:.{}e}", tick, std::clamp(digits, 0, 9)));
  }
  return fmt::format("{:.{}f}", tick, std::clamp(-digit, 0, 9));
}

Axis make_axis(double low, double high, bool log, bool round_ends, int most_ticks) {
  Axis a{low, high, log, {}, 0};
  if (!(a.high > a.low)) {
    const double room = log ? 0 : std::max(std::abs(low) * 0.05, 1e-12);
    a.low = log ? low / 1.5 : low - (low == 0 ? 1 : room);
    a.high = log ? high * 1.5 : high + (high == 0 ? 1 : room);
  }
  const double step = round_up((a.high - a.low) / most_ticks);
  if (round_ends && !log) {
    a.low = std::floor(a.low / step + 1e-9) * step;
    a.high = std::ceil(a.high / step - 1e-9) * step;
  }
  if (log) {
    log_ticks(a, most_ticks);
  } else {
    linear_ticks(a, step);
  }
  return a;
}

}  // namespace hadal::train
