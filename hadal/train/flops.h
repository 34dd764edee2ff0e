// Floating-point operations of training: what its products come to, two for each multiply-add.
#pragma once

#include "hadal/config/config.h"

namespace hadal::train {

// Of a token of sequences this long, forward and backward (three times forward); causal attention is half the square.
// Norms, softmax and the optimiser do not count.
double flops_per_token(const config::Config& config, Index sequence_length);

}  // namespace hadal::train
