#include "hadal/model/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hadal::model {
namespace {

// The channel whose wavelength makes `rotations` turns over the original context.
double correction_dim(const Config& c, double rotations) {
  const auto dim = static_cast<double>(c.qk_rope_head_dim);
  const auto original = static_cast<double>(c.yarn->original_max_position_embeddings);
  return dim * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(c.rope_theta));
}

// Fast channels keep their frequency, slow ones are stretched by the factor, a ramp between (rule 14).
void stretch(const Config& c, std::vector<double>& inv_freq) {
  const double low = std::max(std::floor(correction_dim(c, c.yarn->beta_fast)), 0.0);
  double high = std::min(std::ceil(correction_dim(c, c.yarn->beta_slow)), static_cast<double>(c.qk_rope_head_dim - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] = inv_freq[i] / c.yarn->factor * ramp + inv_freq[i] * (1 - ramp);
  }
}

}  // namespace

Rotary::Rotary(const Config& c) {
  for (Index i = 0; i < c.qk_rope_head_dim; i += 2)
    inv_freq.push_back(std::pow(c.rope_theta, -static_cast<double>(i) / static_cast<double>(c.qk_rope_head_dim)));
  if (!c.yarn) return;
  stretch(c, inv_freq);
  magnitude = c.yarn->magnitude();
  softmax_scale_factor = c.yarn->softmax_magnitude() * c.yarn->softmax_magnitude();
}

}  // namespace hadal::model
