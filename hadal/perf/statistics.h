// How long something takes, and the median and quartiles of repeated measurements.
#pragma once

#include <functional>
#include <vector>

namespace hadal::perf {

double seconds_of(const std::function<void()>& body);

struct Spread {
  double median = 0, lower_quartile = 0, upper_quartile = 0;
  int runs = 0;
};

// Quartiles interpolate between neighbours (the method of numpy.percentile). Throws Error without any value.
Spread spread_of(std::vector<double> values);

}  // namespace hadal::perf
