// What a run begins with.
#pragma once

#include "hadal/train/parameters.h"

namespace hadal::train {

// The values of `hadal init` with this seed and standard deviation: normal matrices, unit gains, zero routing biases.
void init_values(Context& ctx, Parameters& parameters, std::uint64_t seed, double std);

// Throws Error that names the first value that is NaN or infinite, `where` in front.
void check_finite(Context& ctx, const Parameters& parameters, const std::string& where);

}  // namespace hadal::train
