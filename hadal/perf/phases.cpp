#include "hadal/perf/phases.h"

#include <algorithm>

namespace hadal::perf {
namespace {

Spread milliseconds(std::vector<double> seconds, double passes) {
  for (double& s : seconds) s *= 1e3 / passes;
  return spread_of(std::move(seconds));
}

}  // namespace

void PhaseMeter::sample(const std::function<void()>& passes) {
  PhaseTimes times;
  {
    const Observers::Watch watch(ctx_.observers, times);
    passes();
  }
  times.stop();
  double all = 0;
  for (std::size_t i = 0; i < kNumPhases; ++i) {
    seconds_[i].push_back(times.seconds(static_cast<Phase>(i)));
    all += seconds_[i].back();
  }
  all_.push_back(all);
}

std::vector<Row> PhaseMeter::rows(const std::string& what, const std::string& suffix, const PassWork& work,
                                  double passes, const LimitMeter& meter, const Loop& attention) const {
  std::vector<Row> rows;
  const auto add = [&](std::string_view name, const std::vector<double>& seconds, const PassWork& part) {
    Row row{.name = fmt::format("{}/{} {}", what, name, suffix), .unit = "ms", .value = milliseconds(seconds, passes)};
    set_work(row, part, passes);
    set_limits(row, meter, part, 1, ctx_, &attention);  // as passes a second; here it is their time that counts
    row.limit = row.limit > 0 ? 1e3 / row.limit / passes : 0;
    if (part.linears().bytes == 0 && part.linears().flops == 0) row.limited_by = row.limit > 0 ? attention.name() : "";
    row.ratios.clear();
    rows.push_back(std::move(row));
  };
  for (std::size_t i = 0; i < kNumPhases; ++i) {
    PassWork part;
    part.phases[i] = work.phases[i];
    if (spread_of(seconds_[i]).median > 0) add(kPhaseNames[i], seconds_[i], part);
  }
  add("all", all_, work);
  return rows;
}

}  // namespace hadal::perf
