#include "hadal/kernels/limits.h"

#include <immintrin.h>

namespace hadal::kernels::avx512 {

void read_loop(const void* data, std::int64_t bytes, std::uint64_t* sink) {
  constexpr int kVectors = 8;
  const auto* p = static_cast<const unsigned char*>(data);
  __m512i sum[kVectors] = {};
  std::int64_t i = 0;
  for (; i + 64 * kVectors <= bytes; i += 64 * kVectors)
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm512_add_epi64(sum[v], _mm512_loadu_si512(p + i + 64 * v));
  for (int v = 1; v < kVectors; ++v) sum[0] = _mm512_add_epi64(sum[0], sum[v]);
  std::uint64_t rest = 0;
  for (; i < bytes; ++i) rest += p[i];
  alignas(64) std::uint64_t lanes[8];
  _mm512_store_si512(lanes, sum[0]);
  for (const std::uint64_t lane : lanes) rest += lane;
  *sink = rest;
}

double fma_loop(std::int64_t rounds, float* sink) {
  constexpr int kChains = 16, kLanes = 16;
  __m512 sum[kChains];
  for (int c = 0; c < kChains; ++c)
    sum[c] = _mm512_set1_ps(static_cast<float>(c));  // apart, or one would serve for all
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (std::int64_t i = 0; i < rounds; ++i)
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(sum[c], a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = _mm512_add_ps(sum[0], sum[c]);
  *sink = _mm512_cvtss_f32(sum[0]);
  return static_cast<double>(rounds) * kChains * kLanes * 2;
}

}  // namespace hadal::kernels::avx512
