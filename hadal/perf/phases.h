// The time of passes by phase, as rows.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "hadal/perf/phase_times.h"
#include "hadal/perf/roofline.h"

namespace hadal::perf {

class PhaseMeter {
 public:
  explicit PhaseMeter(Context& ctx) : ctx_(ctx) {}

  // Runs the passes of one measurement and charges their time.
  void sample(const std::function<void()>& passes);

  // A row a phase that took time, "decode/attention <suffix>", in milliseconds of one of `passes` passes that did
  // `work` together, and one row for all. `attention` is the loop that attention's core is held against.
  std::vector<Row> rows(const std::string& what, const std::string& suffix, const PassWork& work, double passes,
                        const LimitMeter& meter, const Loop& attention) const;

 private:
  Context& ctx_;
  std::array<std::vector<double>, kNumPhases> seconds_;
  std::vector<double> all_;
};

}  // namespace hadal::perf
