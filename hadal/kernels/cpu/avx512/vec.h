// Sixteen lanes of AVX-512. The counterpart of avx2/vec.h: the same names, so that the algorithms in kernels/cpu are
// written once.
#pragma once

#include <immintrin.h>

#include "hadal/core/number_formats.h"
#include "hadal/core/view.h"

namespace hadal::kernels::HADAL_ISA {

using Vec = __m512;
using IVec = __m512i;
inline constexpr Index kLanes = 16;
// The largest tile of outputs that stays in registers: kTileRows rows of x by two vectors of columns.
inline constexpr int kTileRows = 12;
// Rows of a loop in assembly, and its steps (avx2/tile.h): none here.
inline constexpr int kLoopRows = 0;
inline constexpr Index kLoopSteps = 1;

HADAL_INLINE Vec zero() {
  return _mm512_setzero_ps();
}
HADAL_INLINE Vec broadcast(float x) {
  return _mm512_set1_ps(x);
}
HADAL_INLINE IVec broadcast_dword(const std::uint32_t* p) {
  return _mm512_set1_epi32(static_cast<int>(*p));
}
HADAL_INLINE Vec load(const float* p) {
  return _mm512_loadu_ps(p);
}
HADAL_INLINE void store(float* p, Vec v) {
  _mm512_storeu_ps(p, v);
}
HADAL_INLINE IVec load_dwords(const void* p) {
  return _mm512_loadu_si512(p);
}
HADAL_INLINE void store_dwords(void* p, IVec v) {
  _mm512_storeu_si512(p, v);
}
// Past the caches, to aligned memory; stream_end orders these stores before what follows.
HADAL_INLINE void stream_dwords(void* p, IVec v) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), v);
}
HADAL_INLINE void stream_end() {
  _mm_sfence();
}
HADAL_INLINE Vec as_float(IVec v) {
  return _mm512_castsi512_ps(v);
}
HADAL_INLINE IVec as_int(Vec v) {
  return _mm512_castps_si512(v);
}
HADAL_INLINE Vec load_first(const float* p, Index count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
}
HADAL_INLINE void store_first(float* p, Vec v, Index count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
}
// The first `count` (< 64) bytes, zeros behind; reads nothing else.
HADAL_INLINE IVec load_first_bytes(const std::uint8_t* p, Index count) {
  return _mm512_maskz_loadu_epi8((std::uint64_t{1} << count) - 1, p);
}
HADAL_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
HADAL_INLINE Vec add(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
HADAL_INLINE Vec mul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
HADAL_INLINE IVec bit_and(IVec a, IVec b) {
  return _mm512_and_si512(a, b);
}
HADAL_INLINE IVec bit_or(IVec a, IVec b) {
  return _mm512_or_si512(a, b);
}
HADAL_INLINE IVec bit_xor(IVec a, IVec b) {
  return _mm512_xor_si512(a, b);
}
HADAL_INLINE Vec sub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
HADAL_INLINE IVec add_dwords(IVec a, IVec b) {
  return _mm512_add_epi32(a, b);
}
HADAL_INLINE IVec all_dwords(std::uint32_t x) {
  return _mm512_set1_epi32(static_cast<int>(x));
}
template <int kBits>
HADAL_INLINE IVec left(IVec v) {
  return _mm512_slli_epi32(v, kBits);
}
template <int kBits>
HADAL_INLINE IVec right(IVec v) {
  return _mm512_srli_epi32(v, kBits);
}
template <int kBits>
HADAL_INLINE IVec right_signed(IVec v) {
  return _mm512_srai_epi32(v, kBits);
}
HADAL_INLINE IVec words_right_signed_4(IVec v) {
  return _mm512_srai_epi16(v, 4);
}
HADAL_INLINE IVec words_left_8(IVec v) {
  return _mm512_slli_epi16(v, 8);
}
HADAL_INLINE IVec max_bytes(IVec a, IVec b) {
  return _mm512_max_epu8(a, b);
}
HADAL_INLINE Vec to_float(IVec v) {
  return _mm512_cvtepi32_ps(v);
}
HADAL_INLINE IVec to_int(Vec v) {
  return _mm512_cvtps_epi32(v);
}
// The four bits whose top lands at bit 31 after a left shift by kShift, in two's complement.
template <int kShift>
HADAL_INLINE Vec nibble_to_float(IVec v) {
  const Vec table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
  return _mm512_permutexvar_ps(_mm512_srli_epi32(v, 28 - kShift), table);  // looks at the low four bits only
}
// Halves in the low words.
HADAL_INLINE Vec half_to_float(IVec v) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}
// NaN in every lane where some byte of `bytes` is 0x7F, else `v`.
HADAL_INLINE Vec poison(Vec v, IVec bytes) {
  const __mmask64 bad = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(0x7F));
  const __mmask16 lanes = _mm512_test_epi32_mask(_mm512_movm_epi8(bad), _mm512_set1_epi32(-1));
  return _mm512_mask_mov_ps(v, lanes, _mm512_set1_ps(__builtin_nanf("")));
}
// `original` where it is NaN, else `v`.
HADAL_INLINE Vec keep_nan(Vec v, Vec original) {
  return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(original, original, _CMP_UNORD_Q), original);
}
HADAL_INLINE bool any_byte_7f(IVec bytes) {
  return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(0x7F)) != 0;
}

// Element 4 i + s of `to` is lane i of v[s].
HADAL_INLINE void store_interleaved(float* to, const Vec (&v)[4]) {
  const Vec a = _mm512_unpacklo_ps(v[0], v[1]), b = _mm512_unpackhi_ps(v[0], v[1]);
  const Vec c = _mm512_unpacklo_ps(v[2], v[3]), d = _mm512_unpackhi_ps(v[2], v[3]);
  const auto pairs = [](Vec x, Vec y, bool high) {
    const __m512d p = _mm512_castps_pd(x), q = _mm512_castps_pd(y);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(p, q) : _mm512_unpacklo_pd(p, q));
  };
  // Lanes 4 l + q of every v[s] are the 128 bits l of fours[q].
  const Vec fours[4] = {pairs(a, c, false), pairs(a, c, true), pairs(b, d, false), pairs(b, d, true)};
  for (int q = 0; q < 4; ++q) {
    _mm_storeu_ps(to + 4 * q, _mm512_castps512_ps128(fours[q]));
    _mm_storeu_ps(to + 16 + 4 * q, _mm512_extractf32x4_ps(fours[q], 1));
    _mm_storeu_ps(to + 32 + 4 * q, _mm512_extractf32x4_ps(fours[q], 2));
    _mm_storeu_ps(to + 48 + 4 * q, _mm512_extractf32x4_ps(fours[q], 3));
  }
}

// kLanes consecutive weights of a row, k ascending. E4M3 exactly as they are.
HADAL_INLINE Vec load_row(const float* p) {
  return load(p);
}
HADAL_INLINE Vec load_row(const bf16* p) {
  return as_float(left<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))));
}
HADAL_INLINE void store_sixteen(float* to, const bf16* from) {
  store(to, load_row(from));
}
HADAL_INLINE Vec load_row(const f16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
HADAL_INLINE Vec load_row(const std::int8_t* p) {
  return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
HADAL_INLINE IVec load_row_bytes(const std::uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
HADAL_INLINE IVec load_row_signed_bytes(const std::uint8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// Sixteen packed 4-bit codes of eight bytes, as integers.
HADAL_INLINE IVec load_row_nibbles(const std::uint8_t* p) {
  const __m512i both = _mm512_broadcast_i32x2(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m512i each =
      _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1), both);
  const __m512i shift = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
  return _mm512_and_si512(_mm512_srlv_epi32(each, shift), _mm512_set1_epi32(15));
}

// As vmaxps: the second operand where one is NaN or both are zero.
HADAL_INLINE Vec max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}

// e^x: the same steps as in avx2/vec.h, and so the same bits.
HADAL_INLINE Vec exp(Vec x) {
  const Vec n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vec clamped = _mm512_max_ps(_mm512_min_ps(n, _mm512_set1_ps(129.0f)), _mm512_set1_ps(-160.0f));
  Vec r = _mm512_fnmadd_ps(clamped, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(clamped, _mm512_set1_ps(-2.12194440e-4f), r);
  Vec p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  const IVec k = _mm512_cvtps_epi32(clamped);
  const IVec half = _mm512_srai_epi32(k, 1);
  const IVec bias = _mm512_set1_epi32(127);
  const Vec first = as_float(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23));
  const Vec second = as_float(_mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(k, half), bias), 23));
  Vec y = _mm512_mul_ps(_mm512_mul_ps(p, first), second);
  y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, _mm512_set1_ps(88.8f), _CMP_GT_OQ), _mm512_set1_ps(__builtin_inff()));
  y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, _mm512_set1_ps(-104.0f), _CMP_LT_OQ), _mm512_setzero_ps());
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}
// exp() of every vector.
template <int N>
HADAL_INLINE void exp_all(Vec (&x)[N]) {
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = exp(x[i]);
}

// Lane 0 of the result is lane N of v, and so on as far as a tree over all lanes needs it; N is 1, 2, 4 or 8.
template <int N>
HADAL_INLINE Vec lanes_from(Vec v) {
  if constexpr (N >= 4) return _mm512_shuffle_f32x4(v, v, N == 8 ? 0x4E : 0x39);
  return _mm512_permute_ps(v, N == 2 ? 0x4E : 0x39);
}
HADAL_INLINE float first_lane(Vec v) {
  return _mm512_cvtss_f32(v);
}

// r[i] lane j -> r[j] lane i.
HADAL_INLINE void transpose(IVec (&r)[16]) {
  IVec a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const IVec even_low = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88),
               even_high = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
    const IVec odd_low = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xDD),
               odd_high = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xDD);
    r[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xDD);
    r[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    r[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xDD);
  }
}

// Sixteen rows of 64 bytes, transposed.
HADAL_INLINE void load_transposed(const std::uint8_t* p, Index row_bytes, IVec (&r)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = load_dwords(p + i * row_bytes);
  transpose(r);
}

}  // namespace hadal::kernels::HADAL_ISA
