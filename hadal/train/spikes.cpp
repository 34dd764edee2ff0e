#include "hadal/train/spikes.h"

#include <cmath>

namespace hadal::train {

bool is_spike(const SpikeRule& rule, const std::vector<double>& before, double loss, double grad_norm) {
  if (!std::isfinite(loss) || !std::isfinite(grad_norm)) return true;
  const auto count = static_cast<double>(before.size());
  if (rule.z_score <= 0 || 2 * count < static_cast<double>(rule.window)) return false;
  double mean = 0, variance = 0;
  for (const double x : before) mean += x / count;
  for (const double x : before) variance += (x - mean) * (x - mean) / count;
  return loss > mean + rule.z_score * std::sqrt(variance);
}

void remember_loss(const SpikeRule& rule, std::vector<double>& before, double loss) {
  before.push_back(loss);
  const auto window = static_cast<std::size_t>(rule.window);
  if (before.size() > window) before.erase(before.begin(), before.end() - static_cast<std::ptrdiff_t>(window));
}

}  // namespace hadal::train
