// A permutation of 0..size-1 that no list is kept of: a Feistel network on the smallest square of a power of two that
// has room, gone through again until the result is in range.
#pragma once

#include <cstdint>

namespace hadal::data {

class Permutation {
 public:
  // Different (seed, stream) give permutations that have nothing to do with each other.
  Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t stream);

  std::uint64_t size() const { return size_; }
  std::uint64_t operator()(std::uint64_t i) const;  // i < size

 private:
  std::uint64_t once(std::uint64_t i) const;

  std::uint64_t size_, seed_, stream_;
  int half_ = 1;  // bits
};

}  // namespace hadal::data
