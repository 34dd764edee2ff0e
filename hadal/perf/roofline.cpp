#include "hadal/perf/roofline.h"

#include <algorithm>

namespace hadal::perf {

double Roofline::seconds(const PassWork& work) const {
  const Work linears = work.linears(), core = work[Phase::kAttention];
  return std::max(linears.bytes / read_rate, linears.flops / compute_rate) +
         std::max(core.bytes / read_rate, core.flops / attention_rate);
}

bool Roofline::reading(const PassWork& work) const {
  return work.linears().bytes / read_rate > work.linears().flops / compute_rate;
}

std::vector<Loop> loops_for(const Context& ctx) {
  std::vector<Loop> loops = {read_loop_of(ctx.numerics.isa), fma_loop_of(ctx.numerics.isa)};
  for (const Loop& loop : loops_up_to(best_isa()))
    if (loop.kind != LoopKind::kRead && loop.isa != Isa::kRef) loops.push_back(loop);
  return loops;
}

void set_work(Row& row, const PassWork& work, double passes) {
  row.bytes = work.linears().bytes / passes;
  row.flops = work.linears().flops / passes;
  row.attention_flops = work[Phase::kAttention].flops / passes;
  row.cache_bytes = work[Phase::kAttention].bytes / passes;
}

void set_limits(Row& row, const LimitMeter& meter, const PassWork& work, double amount, const Context& ctx,
                const Loop* attention) {
  for (const Loop& loop : meter.loops()) row.rates[loop.name()] = meter.rate(loop) * 1e-9;
  const Loop read = read_loop_of(ctx.numerics.isa),
             compute = compute_loop_of(ctx.numerics.isa, ctx.numerics.activations);
  const auto roofline = [&](const Loop& arithmetic) {
    return Roofline{meter.rate(read), meter.rate(arithmetic), meter.rate(attention ? *attention : arithmetic)};
  };
  row.limit = amount / roofline(compute).seconds(work);
  row.limited_by = roofline(compute).reading(work) ? read.name() : compute.name();
  for (const Loop& loop : meter.loops())
    if (loop.kind != LoopKind::kRead && !roofline(loop).reading(work))
      row.ratios[loop.name()] = row.value.median / (amount / roofline(loop).seconds(work));
}

}  // namespace hadal::perf
