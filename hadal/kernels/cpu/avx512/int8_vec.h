// What products of INT8 need on top of vec.h. The counterpart of avx2/int8_vec.h.
#pragma once

#include "hadal/kernels/cpu/avx512/vec.h"

namespace hadal::kernels::HADAL_ISA {

HADAL_INLINE Vec div(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
HADAL_INLINE IVec max_dwords(IVec a, IVec b) {
  return _mm512_max_epi32(a, b);
}
HADAL_INLINE IVec sub_bytes(IVec a, IVec b) {
  return _mm512_sub_epi8(a, b);
}
HADAL_INLINE IVec words_right_signed_8(IVec v) {
  return _mm512_srai_epi16(v, 8);
}
HADAL_INLINE IVec join_bytes(const IVec (&q)[4]) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return _mm512_shuffle_epi8(_mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])), order);
}
HADAL_INLINE void store_bytes(void* p, IVec v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v));
}
HADAL_INLINE std::uint32_t largest_dword(IVec v) {
  return static_cast<std::uint32_t>(_mm512_reduce_max_epi32(v));
}

HADAL_INLINE IVec dot_words(IVec acc, IVec a, IVec b) {
  return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
}
HADAL_INLINE void row_done(IVec& a, IVec& b) {
  asm volatile("" : "+v"(a), "+v"(b));
}

}  // namespace hadal::kernels::HADAL_ISA
