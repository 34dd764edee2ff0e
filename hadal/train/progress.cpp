#include "hadal/train/progress.h"

#include <cmath>

#include "hadal/train/chart.h"
#include "hadal/train/expert_load.h"

namespace hadal::train {

std::string progress_line(const StepRecord& r, Index total_steps, double seconds_left) {
  std::string out = fmt::format("step {}", r.step);
  if (total_steps > 0) add_text(out, "/{}", total_steps);
  add_text(out, "  loss {:.4g}  main {:.4g}", r.loss, r.main);
  for (std::size_t d = 0; d < r.mtp.size(); ++d) add_text(out, "{}{:.4g}", d == 0 ? "  mtp " : " ", r.mtp[d]);
  add_text(out, "  grad {:.3g}  lr {}", r.grad_norm, short_number(r.learning_rate));
  if (r.tokens_per_second > 0) add_text(out, "  {:.0f} tok/s", r.tokens_per_second);
  if (r.fma_share > 0) add_text(out, "  {:.0f}% of FMA", 100 * r.fma_share);
  if (seconds_left > 0 && std::isfinite(seconds_left)) add_text(out, "  {} left", duration_text(seconds_left));
  return r.skipped ? out + "  SKIPPED" : out;
}

std::string validation_line(const ValidationRecord& r) {
  std::string out = fmt::format("step {}: validation {:.4f} nats a token, {:.4f} bits a byte", r.step, r.nats_per_token,
                                r.bits_per_byte);
  if (!r.load.empty()) add_text(out, ", MaxVio {:.3g}", mean_max_vio(r.load));
  return out;
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e15) return "–";
  const std::int64_t s = std::llround(seconds);
  if (s < 60) return seconds < 9.95 ? fmt::format("{:.2g} s", seconds) : fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

}  // namespace hadal::train
