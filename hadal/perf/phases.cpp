#include "hadal/perf/phases.h"

#include <algorithm>

namespace hadal::perf {
namespace {

// Where one op computes routed and shared experts together, its phase has the work of both.
PassWork as_measured(PassWork work, bool shared_apart) {
  if (shared_apart) return work;
  work[Phase::kExperts] += work[Phase::kSharedExperts];
  work[Phase::kSharedExperts] = {};
  return work;
}

Spread milliseconds(std::vector<double> seconds, double passes) {
  for (double& s : seconds) s *= 1e3 / passes;
  return spread_of(std::move(seconds));
}

}  // namespace

void PhaseMeter::sample(const std::function<void()>& passes) {
  PhaseTimes times;
  ctx_.phases = &times;
  try {
    passes();
  } catch (...) {
    ctx_.phases = nullptr;
    throw;
  }
  times.enter(Phase::kOther);
  ctx_.phases = nullptr;
  double all = 0;
  for (std::size_t i = 0; i < kNumPhases; ++i) {
    seconds_[i].push_back(times.seconds(static_cast<Phase>(i)));
    all += seconds_[i].back();
  }
  all_.push_back(all);
}

std::vector<Row> PhaseMeter::rows(const std::string& what, const std::string& suffix, const PassWork& work,
                                  double passes, const LimitMeter& meter, const Loop& attention) const {
  const bool shared_apart = spread_of(seconds_[static_cast<std::size_t>(Phase::kSharedExperts)]).median > 0;
  const PassWork measured = as_measured(work, shared_apart);
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
    part.phases[i] = measured.phases[i];
    if (spread_of(seconds_[i]).median > 0) add(kPhaseNames[i], seconds_[i], part);
  }
  add("all", all_, measured);
  return rows;
}

}  // namespace hadal::perf
