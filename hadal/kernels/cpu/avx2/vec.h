// Eight float lanes. Only intrinsics and always-inlined helpers: these translation units are compiled for a newer
// instruction set than the rest and must not leave shared inline functions behind (tools/check_isa).
#pragma once

#include <immintrin.h>

#include "hadal/core/number_formats.h"
#include "hadal/core/view.h"

namespace hadal::kernels::avx2 {

using Vec = __m256;
inline constexpr Index kLanes = 8;

HADAL_INLINE __m256i tail_mask(Index count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

HADAL_INLINE Vec load_tail(const float* p, Index count) {
  return _mm256_maskload_ps(p, tail_mask(count));
}
HADAL_INLINE void store_tail(float* p, Index count, Vec v) {
  _mm256_maskstore_ps(p, tail_mask(count), v);
}

// Sixteen E4M3 codes to halves of value * 2^-8: the sign stays on top, exponent and mantissa move to their places in
// the half, whose exponent bias is 8 larger; subnormals come out right by themselves and NaN codes become NaN.
HADAL_INLINE __m256i e4m3_to_half_scaled(__m128i codes) {
  const __m256i wide = _mm256_cvtepi8_epi16(codes);
  const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xBFFF)));
  const __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x7F)), _mm256_set1_epi16(0x7F));
  return _mm256_or_si256(half, nan);
}

inline constexpr float kE4m3Unit = 256.0f;  // what load() of an E4M3 weight is to be multiplied by

// Eight stored weights as floats; E4M3 ones still lack the factor kE4m3Unit.
HADAL_INLINE Vec load(const float* p) {
  return _mm256_loadu_ps(p);
}
HADAL_INLINE Vec load(const bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
HADAL_INLINE Vec load(const f16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
HADAL_INLINE Vec load(const e4m3* p) {
  return _mm256_cvtph_ps(
      _mm256_castsi256_si128(e4m3_to_half_scaled(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
}

// The first `count` (< 8) weights, zeros behind. Never reads beyond them.
template <class T>
HADAL_INLINE Vec load_weight_tail(const T* p, Index count) {
  T padded[kLanes] = {};
  for (Index i = 0; i < count; ++i) padded[i] = p[i];
  return load(padded);
}

// e^x with an error below 2 units in the last place: x = n ln 2 + r, a polynomial in r, 2^n in two steps so that
// results near the ends of the range are right. Underflows to 0, overflows to infinity, NaN stays NaN.
HADAL_INLINE Vec exp(Vec x) {
  const Vec n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vec clamped = _mm256_max_ps(_mm256_min_ps(n, _mm256_set1_ps(129.0f)), _mm256_set1_ps(-160.0f));
  Vec r = _mm256_fnmadd_ps(clamped, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(clamped, _mm256_set1_ps(-2.12194440e-4f), r);
  Vec p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  const __m256i k = _mm256_cvtps_epi32(clamped);
  const __m256i half = _mm256_srai_epi32(k, 1);
  const auto power = [](__m256i e) __attribute__((always_inline)) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  Vec y = _mm256_mul_ps(_mm256_mul_ps(p, power(half)), power(_mm256_sub_epi32(k, half)));
  // Outside these bounds the polynomial's argument is no longer small.
  y = _mm256_blendv_ps(y, _mm256_set1_ps(__builtin_inff()), _mm256_cmp_ps(x, _mm256_set1_ps(88.8f), _CMP_GT_OQ));
  y = _mm256_blendv_ps(y, _mm256_setzero_ps(), _mm256_cmp_ps(x, _mm256_set1_ps(-104.0f), _CMP_LT_OQ));
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

}  // namespace hadal::kernels::avx2
