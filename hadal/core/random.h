// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A draw is a pure function of (seed, stream,
// index), so results depend on no call order and no thread count.
#pragma once

#include <array>
#include <cstdint>

namespace hadal {

// The 128 bits at `counter` under `key`.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

class Philox {
 public:
  // Streams of one seed are independent: one per tensor, sequence or choice.
  Philox(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  std::array<std::uint32_t, 4> block(std::uint64_t index) const;
  // Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t index) const;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

}  // namespace hadal
