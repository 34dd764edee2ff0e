// What products of INT8 need on top of wide.h. The counterpart of avx512/int8_vec.h.
#pragma once

#include "hadal/kernels/cpu/avx2/tile.h"

namespace hadal::kernels::avx2 {

HADAL_INLINE Vec div(Vec a, Vec b) {
  return _mm256_div_ps(a, b);
}
HADAL_INLINE IVec max_dwords(IVec a, IVec b) {
  return _mm256_max_epi32(a, b);
}
HADAL_INLINE IVec sub_bytes(IVec a, IVec b) {
  return _mm256_sub_epi8(a, b);
}
HADAL_INLINE IVec words_right_signed_8(IVec v) {
  return _mm256_srai_epi16(v, 8);
}
// Lane by lane, four integers of at most eight bits as the bytes of a dword, the first in the low bits.
HADAL_INLINE IVec join_bytes(const IVec (&q)[4]) {
  const __m256i order = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13,
                                         2, 6, 10, 14, 3, 7, 11, 15);
  return _mm256_shuffle_epi8(_mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3])), order);
}
// kLanes integers of at most eight bits as kLanes bytes.
HADAL_INLINE void store_bytes(void* p, IVec v) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
HADAL_INLINE std::uint32_t largest_dword(IVec v) {
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1))));
}

HADAL_INLINE IVec words_right_12(IVec v) {
  return _mm256_srli_epi16(v, 12);
}
HADAL_INLINE IVec sub_words(IVec a, IVec b) {
  return _mm256_sub_epi16(a, b);
}
HADAL_INLINE IVec mul_dwords(IVec a, IVec b) {
  return _mm256_mullo_epi32(a, b);
}
// Eight integers as words, the nearest that there are: 0 and 4, 1 and 5, 2 and 6, 3 and 7 of them in a dword each.
HADAL_INLINE __m128i saturated_words(IVec v) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  return _mm_unpacklo_epi16(words, _mm_unpackhi_epi64(words, words));
}

// acc + the products of signed words, by pairs.
HADAL_INLINE IVec dot_words(IVec acc, IVec a, IVec b) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}
HADAL_INLINE void done(IVec& v) {
  asm volatile("" : "+x"(v));
}
// Ends a row of a tile for the compiler's scheduler, which otherwise keeps more products waiting than registers hold.
HADAL_INLINE void row_done(IVec& a, IVec& b) {
  asm volatile("" : "+x"(a), "+x"(b));
}

}  // namespace hadal::kernels::avx2
