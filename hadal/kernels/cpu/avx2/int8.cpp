// Products with x rounded to int8, in AVX2: pairs of 16-bit products, tiles of 6 x 16.
#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/int4_dot.h"

namespace hadal::kernels::avx2 {
namespace {

bool of_int4(const LinearArgs& a) {
  return a.w_dtype == DType::kI32;
}

Index packed_bytes(const LinearArgs& a) {
  return of_int4(a) ? int8_packed_bytes_as<Int4Dot>(a) : int8_packed_bytes_as<WordDot>(a);
}

void pack(const LinearArgs& a, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed) {
  (of_int4(a) ? int8_pack_as<Int4Dot> : int8_pack_as<WordDot>)(a, tile_begin, tile_end, k_begin, k_end, packed);
}

void multiply(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next, void* scratch) {
  if (of_int4(a)) return int8_multiply_by<Int4Dot, Int4Codes>(a, packed, n_begin, n_end, next, scratch);
  int8_multiply_as<WordDot>(a, packed, n_begin, n_end, next, scratch);
}

}  // namespace

const RoundedKernels kInt8 = {packed_bytes,      int8_scratch_bytes_as<WordDot>, tiles_of<>, pack, multiply,
                              round_rows_to_int8};

}  // namespace hadal::kernels::avx2
