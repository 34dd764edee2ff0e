#include "hadal/kernels/limits.h"

#include <immintrin.h>

namespace hadal::kernels::avx512bf16 {
namespace {

constexpr int kChains = 16;

}  // namespace

double bf16_dot_loop(std::int64_t rounds, float* sink) {
  __m512 sum[kChains];
  for (int c = 0; c < kChains; ++c)
    sum[c] = _mm512_set1_ps(static_cast<float>(c));  // apart, or one would serve for all
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
  const __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.001f), _mm512_set1_ps(-0.001f));
  for (std::int64_t i = 0; i < rounds; ++i)
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_dpbf16_ps(sum[c], a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = _mm512_add_ps(sum[0], sum[c]);
  *sink = _mm512_cvtss_f32(sum[0]);
  return static_cast<double>(rounds) * kChains * 32 * 2;
}

double int8_dot_loop(std::int64_t rounds, float* sink) {
  __m512i sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = _mm512_set1_epi32(c);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi32(0x01FF01FF);  // 1 and -1 in turns
  for (std::int64_t i = 0; i < rounds; ++i)
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_dpbusd_epi32(sum[c], a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = _mm512_add_epi32(sum[0], sum[c]);
  alignas(64) std::int32_t lanes[16];
  _mm512_store_si512(lanes, sum[0]);
  *sink = static_cast<float>(lanes[0]);
  return static_cast<double>(rounds) * kChains * 64 * 2;
}

}  // namespace hadal::kernels::avx512bf16
