#include "hadal/kernels/limits.h"

#include <immintrin.h>

namespace hadal::kernels::avx2 {

void read_loop(const void* data, std::int64_t bytes, std::uint64_t* sink) {
  constexpr int kVectors = 8;
  const auto* p = static_cast<const unsigned char*>(data);
  __m256i sum[kVectors] = {};
  std::int64_t i = 0;
  for (; i + 32 * kVectors <= bytes; i += 32 * kVectors)
    for (int v = 0; v < kVectors; ++v)
      sum[v] = _mm256_add_epi64(sum[v], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 32 * v)));
  for (int v = 1; v < kVectors; ++v) sum[0] = _mm256_add_epi64(sum[0], sum[v]);
  std::uint64_t rest = 0;
  for (; i < bytes; ++i) rest += p[i];
  alignas(32) std::uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum[0]);
  *sink = lanes[0] + lanes[1] + lanes[2] + lanes[3] + rest;
}

double fma_loop(std::int64_t rounds, float* sink) {
  constexpr int kChains = 12, kLanes = 8;  // both pipes' latency is hidden and 16 registers are enough
  __m256 sum[kChains];
  for (int c = 0; c < kChains; ++c)
    sum[c] = _mm256_set1_ps(static_cast<float>(c));  // apart, or one would serve for all
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (std::int64_t i = 0; i < rounds; ++i)
    for (int c = 0; c < kChains; ++c) sum[c] = _mm256_fmadd_ps(sum[c], a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = _mm256_add_ps(sum[0], sum[c]);
  *sink = _mm256_cvtss_f32(sum[0]);
  return static_cast<double>(rounds) * kChains * kLanes * 2;
}

}  // namespace hadal::kernels::avx2
