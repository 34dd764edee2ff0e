// Filling memory with normal deviates, many at a time.
#pragma once

#include <cstdint>
#include <span>

#include "hadal/core/context.h"

namespace hadal::checkpoint {

// values[i] = std * z(seed, stream, first + i), z standard normal. Element j of a stream comes from Philox block j / 4
// (Box-Muller on its two halves), so any cut of a tensor into pieces gives the same numbers. Float arithmetic with
// polynomials of our own: the same bits on every machine.
void fill_normal(Context& ctx, std::span<float> values, std::uint64_t seed, std::uint64_t stream, std::uint64_t first,
                 double std);

}  // namespace hadal::checkpoint
