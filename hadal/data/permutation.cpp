#include "hadal/data/permutation.h"

#include "hadal/core/random.h"

namespace hadal::data {
namespace {

// Four make a network that looks random to anybody; small ones want some more.
constexpr std::uint64_t kRounds = 8;

}  // namespace

Permutation::Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t stream)
    : size_(size), seed_(seed), stream_(stream) {
  while (half_ < 32 && std::uint64_t{1} << 2 * half_ < size_) ++half_;
}

std::uint64_t Permutation::once(std::uint64_t i) const {
  const Philox draws(seed_, stream_);
  const std::uint64_t mask = (std::uint64_t{1} << half_) - 1;
  std::uint64_t left = i >> half_, right = i & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t mixed = left ^ (draws.block(round << 32 | right)[0] & mask);
    left = right;
    right = mixed;
  }
  return left << half_ | right;
}

std::uint64_t Permutation::operator()(std::uint64_t i) const {
  do i = once(i);
  while (i >= size_);
  return i;
}

}  // namespace hadal::data
