// Rows beside their limits: the work of a pass over the rates of the loops.
#pragma once

#include <vector>

#include "hadal/perf/limits.h"
#include "hadal/perf/report.h"
#include "hadal/perf/work.h"

namespace hadal::perf {

// The least time of a pass: the larger of reading and of the linears' arithmetic, and attention's core behind it, which
// is a phase of its own.
struct Roofline {
  double read_rate = 0, compute_rate = 0, attention_rate = 0;  // bytes or operations a second

  double seconds(const PassWork& work) const;
  bool reading(const PassWork& work) const;  // what is larger
};

// The loops that rows of this context need: its own, and arithmetic of every kind that the machine has.
std::vector<Loop> loops_for(const Context& ctx);

// Fills in what one of `passes` passes does, whose work together is `work`.
void set_work(Row& row, const PassWork& work, double passes);

// Fills in limit, rates and ratios: `amount` (tokens, GFLOP) in the time of `work`. `attention` is the loop that
// attention's core is held against, if not the one of the linears.
void set_limits(Row& row, const LimitMeter& meter, const PassWork& work, double amount, const Context& ctx,
                const Loop* attention);

}  // namespace hadal::perf
