// Passes over the logits of a vocabulary, in a few instructions for sixteen of them: beside a small model's forward
// pass a loop of comparisons and jumps over 129,280 logits is not short.
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::infer {

inline constexpr std::size_t kScanLanes = 16;

struct Extremes {
  float largest = -std::numeric_limits<float>::infinity();  // of those that are numbers
  bool all_below_infinity = true;                           // NaN is not
};
Extremes extremes(std::span<const float> logits);

// The first index of that value, which must be there.
std::size_t index_of(std::span<const float> logits, float value);

// A value that at least `count` logits reach, near that of the count-th best; minus infinity if there are not many
// more.
float reached_by(std::span<const float> logits, Index count);

// x becomes e^x, but for a part in 10^13; of numbers in [-700, 0].
inline constexpr std::size_t kExpLanes = 64;
void close_exp(std::span<double, kExpLanes> x);

// Calls f(i) for the logits that are at least `least`, ascending.
template <class F>
void for_each_at_least(std::span<const float> logits, float least, F&& f) {
  for (std::size_t begin = 0; begin < logits.size(); begin += kScanLanes) {
    const std::size_t end = begin + kScanLanes < logits.size() ? begin + kScanLanes : logits.size();
    if (end - begin == kScanLanes) {
      int any = 0;
      for (std::size_t j = 0; j < kScanLanes; ++j) any |= logits[begin + j] >= least ? 1 : 0;
      if (any == 0) continue;
    }
    for (std::size_t i = begin; i < end; ++i)
      if (logits[i] >= least) f(i);
  }
}

}  // namespace hadal::infer
