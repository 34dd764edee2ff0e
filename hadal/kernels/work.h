// How much of an operation one piece of a parallel loop takes. Only speed depends on it.
#pragma once

#include <algorithm>

#include "hadal/core/context.h"

namespace hadal::kernels {

// Below this many multiply-adds waking another thread costs more than it saves.
inline constexpr Index kSmallWork = 1 << 15;

// For n items of `work` multiply-adds each: at least `least` items, about four pieces a thread, or all of it if small.
inline Index piece_size(const Context& ctx, Index n, Index work, Index least) {
  const Index threads = ctx.threads.num_threads();
  if (threads == 1 || n * std::max<Index>(work, 1) < kSmallWork) return std::max<Index>(n, 1);
  const Index pieces = (n + threads * 4 - 1) / (threads * 4);
  return std::max<Index>(1, (std::max(pieces, least) + least - 1) / least * least);
}

}  // namespace hadal::kernels
