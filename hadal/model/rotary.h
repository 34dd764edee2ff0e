// Rotary frequencies of a config, plain or YaRN (arXiv 2309.00071; constants as in the published modelling code).
#pragma once

#include <vector>

#include "hadal/config/config.h"

namespace hadal::model {

using config::Config;

struct Rotary {
  std::vector<double> inv_freq;     // [qk_rope_head_dim / 2]
  double magnitude = 1;             // of cos and sin: m(mscale) / m(mscale_all_dim)
  double softmax_scale_factor = 1;  // m(mscale_all_dim)^2, on top of 1 / sqrt(qk_head_dim) (rule 15)

  Rotary() = default;
  // YaRN is a matter of the config alone; the length of a prompt never changes it (rule 16).
  explicit Rotary(const Config& c);
};

}  // namespace hadal::model
