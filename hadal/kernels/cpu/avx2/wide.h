// Eight lanes of AVX2 under the names that the algorithms in kernels/cpu are written with; see avx512/vec.h.
#pragma once

#include "hadal/kernels/cpu/avx2/vec.h"

namespace hadal::kernels::avx2 {

using IVec = __m256i;
inline constexpr int kTileRows = 6;

HADAL_INLINE Vec zero() {
  return _mm256_setzero_ps();
}
HADAL_INLINE Vec broadcast(float x) {
  return _mm256_set1_ps(x);
}
HADAL_INLINE IVec broadcast_dword(const std::uint32_t* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
}
HADAL_INLINE void store(float* p, Vec v) {
  _mm256_storeu_ps(p, v);
}
HADAL_INLINE IVec load_dwords(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
// Past the caches, to aligned memory; stream_end orders these stores before what follows.
HADAL_INLINE void stream_dwords(void* p, IVec v) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v);
}
HADAL_INLINE void stream_end() {
  _mm_sfence();
}
HADAL_INLINE void store_dwords(void* p, IVec v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}
HADAL_INLINE Vec as_float(IVec v) {
  return _mm256_castsi256_ps(v);
}
HADAL_INLINE IVec as_int(Vec v) {
  return _mm256_castps_si256(v);
}
HADAL_INLINE Vec load_first(const float* p, Index count) {
  return load_tail(p, count);
}
HADAL_INLINE void store_first(float* p, Vec v, Index count) {
  store_tail(p, count, v);
}
HADAL_INLINE IVec load_first_bytes(const std::uint8_t* p, Index count) {
  alignas(32) std::uint8_t bytes[32] = {};
  for (Index i = 0; i < count; ++i) bytes[i] = p[i];
  return load_dwords(bytes);
}
HADAL_INLINE Vec max(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
}
HADAL_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
HADAL_INLINE Vec add(Vec a, Vec b) {
  return _mm256_add_ps(a, b);
}
HADAL_INLINE Vec mul(Vec a, Vec b) {
  return _mm256_mul_ps(a, b);
}
HADAL_INLINE IVec bit_and(IVec a, IVec b) {
  return _mm256_and_si256(a, b);
}
HADAL_INLINE IVec bit_or(IVec a, IVec b) {
  return _mm256_or_si256(a, b);
}
HADAL_INLINE IVec bit_xor(IVec a, IVec b) {
  return _mm256_xor_si256(a, b);
}
HADAL_INLINE Vec sub(Vec a, Vec b) {
  return _mm256_sub_ps(a, b);
}
HADAL_INLINE IVec add_dwords(IVec a, IVec b) {
  return _mm256_add_epi32(a, b);
}
HADAL_INLINE IVec all_dwords(std::uint32_t x) {
  return _mm256_set1_epi32(static_cast<int>(x));
}
template <int kBits>
HADAL_INLINE IVec left(IVec v) {
  return _mm256_slli_epi32(v, kBits);
}
template <int kBits>
HADAL_INLINE IVec right(IVec v) {
  return _mm256_srli_epi32(v, kBits);
}
template <int kBits>
HADAL_INLINE IVec right_signed(IVec v) {
  return _mm256_srai_epi32(v, kBits);
}
HADAL_INLINE IVec words_right_signed_4(IVec v) {
  return _mm256_srai_epi16(v, 4);
}
HADAL_INLINE IVec words_left_8(IVec v) {
  return _mm256_slli_epi16(v, 8);
}
HADAL_INLINE IVec max_bytes(IVec a, IVec b) {
  return _mm256_max_epu8(a, b);
}
HADAL_INLINE Vec to_float(IVec v) {
  return _mm256_cvtepi32_ps(v);
}
HADAL_INLINE IVec to_int(Vec v) {
  return _mm256_cvtps_epi32(v);
}
template <int kShift>
HADAL_INLINE Vec nibble_to_float(IVec v) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(v, kShift), 28));
}
HADAL_INLINE Vec half_to_float(IVec v) {
  const __m256i words = _mm256_packus_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0xFFFF)), _mm256_setzero_si256());
  return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x08)));
}
HADAL_INLINE Vec keep_nan(Vec v, Vec original) {
  return _mm256_blendv_ps(v, original, _mm256_cmp_ps(original, original, _CMP_UNORD_Q));
}
HADAL_INLINE bool any_byte_7f(IVec bytes) {
  return _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x7F))) != 0;
}
HADAL_INLINE Vec poison(Vec v, IVec bytes) {
  const IVec bad = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x7F));
  const IVec good_lanes = _mm256_cmpeq_epi32(bad, _mm256_setzero_si256());
  return _mm256_blendv_ps(_mm256_set1_ps(__builtin_nanf("")), v, as_float(good_lanes));
}

// Lane 0 of the result is lane N of v, and so on as far as a tree over all lanes needs it; N is 1, 2 or 4.
template <int N>
HADAL_INLINE Vec lanes_from(Vec v) {
  if constexpr (N == 4) return _mm256_permute2f128_ps(v, v, 0x01);
  return _mm256_permute_ps(v, N == 2 ? 0x4E : 0x39);
}
HADAL_INLINE float first_lane(Vec v) {
  return _mm256_cvtss_f32(v);
}

// exp() of every vector, of numbers up to 0. Where every result is a normal number the steps for the ends of the range
// are left out, which changes no bit; each step is taken for all vectors before the next one, so that none waits for
// its own results.
template <int N>
HADAL_INLINE void exp_all(Vec (&x)[N]) {
  Vec least = x[0];
#pragma GCC unroll 8
  for (int i = 1; i < N; ++i) least = _mm256_min_ps(x[i], least);
  if (_mm256_movemask_ps(_mm256_cmp_ps(least, _mm256_set1_ps(-87.0f), _CMP_NGE_UQ)) != 0) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) x[i] = exp(x[i]);
    return;
  }
  Vec n[N], p[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i)
    n[i] = _mm256_round_ps(_mm256_mul_ps(x[i], _mm256_set1_ps(1.44269504088896341f)),
                           _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = _mm256_fnmadd_ps(n[i], _mm256_set1_ps(0.693359375f), x[i]);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = _mm256_fnmadd_ps(n[i], _mm256_set1_ps(-2.12194440e-4f), x[i]);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = _mm256_set1_ps(1.9875691500e-4f);
  constexpr float kFactors[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                                5.0000001201e-1f};
#pragma GCC unroll 5
  for (int step = 0; step < 5; ++step)
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) p[i] = _mm256_fmadd_ps(p[i], x[i], _mm256_set1_ps(kFactors[step]));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i)
    p[i] = _mm256_add_ps(_mm256_fmadd_ps(p[i], _mm256_mul_ps(x[i], x[i]), x[i]), _mm256_set1_ps(1.0f));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    const __m256i k = _mm256_add_epi32(_mm256_cvtps_epi32(n[i]), _mm256_set1_epi32(127));
    x[i] = _mm256_mul_ps(p[i], _mm256_castsi256_ps(_mm256_slli_epi32(k, 23)));
  }
}

// Element 4 i + s of `to` is lane i of v[s].
HADAL_INLINE void store_interleaved(float* to, const Vec (&v)[4]) {
  const Vec a = _mm256_unpacklo_ps(v[0], v[1]), b = _mm256_unpackhi_ps(v[0], v[1]);
  const Vec c = _mm256_unpacklo_ps(v[2], v[3]), d = _mm256_unpackhi_ps(v[2], v[3]);
  const auto pairs = [](Vec x, Vec y, bool high) {
    const __m256d p = _mm256_castps_pd(x), q = _mm256_castps_pd(y);
    return _mm256_castpd_ps(high ? _mm256_unpackhi_pd(p, q) : _mm256_unpacklo_pd(p, q));
  };
  // Lanes 4 l + q of every v[s] are the 128 bits l of fours[q].
  const Vec fours[4] = {pairs(a, c, false), pairs(a, c, true), pairs(b, d, false), pairs(b, d, true)};
  for (int q = 0; q < 4; ++q) {
    _mm_storeu_ps(to + 4 * q, _mm256_castps256_ps128(fours[q]));
    _mm_storeu_ps(to + 16 + 4 * q, _mm256_extractf128_ps(fours[q], 1));
  }
}

// Sixteen BF16 numbers as floats. Quarters of 64 bits change places first, because the unpacking stays within halves.
HADAL_INLINE void store_sixteen(float* to, const bf16* from) {
  const IVec words = _mm256_permute4x64_epi64(load_dwords(from), 0xD8);
  store_dwords(to, _mm256_unpacklo_epi16(_mm256_setzero_si256(), words));
  store_dwords(to + kLanes, _mm256_unpackhi_epi16(_mm256_setzero_si256(), words));
}

HADAL_INLINE Vec load_row(const float* p) {
  return load(p);
}
HADAL_INLINE Vec load_row(const bf16* p) {
  return load(p);
}
HADAL_INLINE Vec load_row(const f16* p) {
  return load(p);
}
HADAL_INLINE Vec load_row(const std::int8_t* p) {
  return to_float(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
HADAL_INLINE IVec load_row_bytes(const std::uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
HADAL_INLINE IVec load_row_signed_bytes(const std::uint8_t* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
HADAL_INLINE IVec load_row_nibbles(const std::uint8_t* p) {
  std::uint32_t dword;
  __builtin_memcpy(&dword, p, 4);
  const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  return _mm256_and_si256(_mm256_srlv_epi32(all_dwords(dword), shift), all_dwords(15));
}

HADAL_INLINE void transpose(IVec (&r)[8]) {
  IVec a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
    a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm256_permute2x128_si256(b[j], b[4 + j], 0x20);
    r[4 + j] = _mm256_permute2x128_si256(b[j], b[4 + j], 0x31);
  }
}

// Eight rows of 32 bytes, transposed: halves of rows i and i + 4 meet in one register, so that only the cheap steps of
// the transposition are left.
HADAL_INLINE void load_transposed(const std::uint8_t* p, Index row_bytes, IVec (&r)[8]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    IVec a[4], b[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const std::uint8_t* at = p + i * row_bytes + half * 16;
      const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
      const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 4 * row_bytes));
      a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    }
    b[0] = _mm256_unpacklo_epi32(a[0], a[1]);
    b[1] = _mm256_unpackhi_epi32(a[0], a[1]);
    b[2] = _mm256_unpacklo_epi32(a[2], a[3]);
    b[3] = _mm256_unpackhi_epi32(a[2], a[3]);
    r[half * 4] = _mm256_unpacklo_epi64(b[0], b[2]);
    r[half * 4 + 1] = _mm256_unpackhi_epi64(b[0], b[2]);
    r[half * 4 + 2] = _mm256_unpacklo_epi64(b[1], b[3]);
    r[half * 4 + 3] = _mm256_unpackhi_epi64(b[1], b[3]);
  }
}

}  // namespace hadal::kernels::avx2
