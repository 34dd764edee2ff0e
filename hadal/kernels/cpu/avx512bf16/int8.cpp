// Products with x rounded to int8, in AVX512-VNNI: four products a dword, tiles of 12 x 32.
#define HADAL_ISA avx512bf16
#include "hadal/kernels/cpu/avx512/int8_vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/avx512bf16/int8_table.h"

namespace hadal::kernels::avx512bf16 {
namespace {

// vpdpbusd wants one operand unsigned: x's codes are 128 too large, and sums start at -128 times the weights'.
struct ByteDot {
  static constexpr int kColumns = 4, kDwords = 1;
  HADAL_INLINE static void split(IVec codes, IVec (&out)[kDwords]) { out[0] = codes; }
  HADAL_INLINE static void split_x(IVec codes, IVec (&out)[kDwords]) {
    out[0] = bit_xor(codes, all_dwords(0x80808080u));
  }
  static constexpr bool kStarts = true, kHasTable = true, kOffset = false;
  HADAL_INLINE static IVec count(IVec sum, IVec codes) { return mac(sum, all_dwords(0x80808080u), codes); }
  HADAL_INLINE static IVec start(IVec sum) { return _mm512_sub_epi32(_mm512_setzero_si512(), sum); }
  HADAL_INLINE static IVec mac(IVec acc, IVec x, IVec w) { return _mm512_dpbusd_epi32(acc, x, w); }
};

}  // namespace

const RoundedKernels kInt8 = {int8_packed_bytes_as<ByteDot>, int8_scratch_bytes_as<ByteDot>, tiles_of<>,
                              int8_pack_as<ByteDot>,         int8_multiply_as<ByteDot>,      round_rows_to_int8};

}  // namespace hadal::kernels::avx512bf16
