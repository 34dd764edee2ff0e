#include "hadal/kernels/limits.h"

#include <cstring>

namespace hadal::kernels::ref {

void read_loop(const void* data, std::int64_t bytes, std::uint64_t* sink) {
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint64_t a = 0, b = 0, word[2];
  std::int64_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    std::memcpy(word, p + i, 16);
    a += word[0];
    b += word[1];
  }
  for (; i < bytes; ++i) a += p[i];
  *sink = a + b;
}

// Products and sums apart, as the reference kernels are compiled: without fused multiply-adds.
double fma_loop(std::int64_t rounds, float* sink) {
  constexpr int kChains = 8;
  float sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = static_cast<float>(c);  // apart, or one would serve for all
  const float a = 0.999f, b = 0.001f;
  for (std::int64_t i = 0; i < rounds; ++i)
    for (float& s : sum) s = s * a + b;
  *sink = 0;
  for (const float s : sum) *sink += s;
  return static_cast<double>(rounds) * kChains * 2;
}

}  // namespace hadal::kernels::ref
