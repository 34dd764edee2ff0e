#include "hadal/infer/logit_scan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace hadal::infer {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();
}  // namespace

// Lanes have no way out of the loop and nothing to wait for.
Extremes extremes(std::span<const float> logits) {
  std::array<float, kScanLanes> largest;
  std::array<int, kScanLanes> not_below{};
  largest.fill(-kInfinite);
  std::size_t i = 0;
  for (; i + kScanLanes <= logits.size(); i += kScanLanes)
    for (std::size_t j = 0; j < kScanLanes; ++j) {
      const float l = logits[i + j];
      largest[j] = l > largest[j] ? l : largest[j];
      not_below[j] |= l < kInfinite ? 0 : 1;
    }
  Extremes all;
  const auto look_at = [&](float l, bool below) {
    all.largest = l > all.largest ? l : all.largest;
    all.all_below_infinity &= below;
  };
  for (std::size_t j = 0; j < kScanLanes; ++j) look_at(largest[j], not_below[j] == 0);
  for (; i < logits.size(); ++i) look_at(logits[i], logits[i] < kInfinite);
  return all;
}

std::size_t index_of(std::span<const float> logits, float value) {
  std::size_t i = 0;
  for (; i + kScanLanes <= logits.size(); i += kScanLanes) {
    int any = 0;
    for (std::size_t j = 0; j < kScanLanes; ++j) any |= logits[i + j] == value ? 1 : 0;
    if (any != 0) break;
  }
  while (logits[i] != value) ++i;
  return i;
}

// Each of the best groups has one logit at least that reaches the least of their largest ones. Long groups are few, of
// short ones fewer logits are left over.
float reached_by(std::span<const float> logits, Index count) {
  if (count <= 0) return -kInfinite;
  std::size_t length = 4 * kScanLanes;
  while (length > 8 && logits.size() / length < 2 * static_cast<std::size_t>(count)) length /= 2;
  const std::size_t groups = logits.size() / length;
  if (groups < static_cast<std::size_t>(count)) return -kInfinite;
  std::vector<float> largest(groups);
  for (std::size_t g = 0; g < groups; ++g) largest[g] = extremes(logits.subspan(g * length, length)).largest;
  const auto at = largest.begin() + (count - 1);
  std::nth_element(largest.begin(), at, largest.end(), std::greater<>());
  return *at;
}

// x = n ln 2 + r, |r| <= ln 2 / 2; e^r is its series, and n is added to the exponent. Adding 1.5 * 2^52 leaves n in the
// last bits of a number.
void close_exp(std::span<double, kExpLanes> x) {
  constexpr double kShift = 0x1.8p52, kLog2E = 0x1.71547652b82fep0, kLn2High = 0x1.62e42fee00000p-1,
                   kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr auto k = [] {  // 1 / i!
    std::array<double, 13> inverse{1};
    for (std::size_t i = 1; i < inverse.size(); ++i) inverse[i] = inverse[i - 1] / static_cast<double>(i);
    return inverse;
  }();
  for (double& value : x) {
    const double shifted = value * kLog2E + kShift;
    const double n = shifted - kShift;
    const double r = (value - n * kLn2High) - n * kLn2Low;
    const double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    const double e = ((1 + r) + r2 * (k[2] + r * k[3])) + r4 * ((k[4] + r * k[5]) + r2 * (k[6] + r * k[7])) +
                     r8 * ((k[8] + r * k[9]) + r2 * (k[10] + r * k[11]) + r4 * k[12]);
    value = std::bit_cast<double>(std::bit_cast<std::uint64_t>(e) + (std::bit_cast<std::uint64_t>(shifted) << 52));
  }
}

}  // namespace hadal::infer
