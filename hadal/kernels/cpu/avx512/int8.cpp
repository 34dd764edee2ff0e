// Products with x rounded to int8, in AVX-512 without VNNI: pairs of 16-bit products, tiles of 12 x 32.
#define HADAL_ISA avx512
#include "hadal/kernels/cpu/avx512/int8_vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/int8_impl.h"

namespace hadal::kernels::avx512 {

const RoundedKernels kInt8 = {int8_packed_bytes_as<WordDot>, int8_scratch_bytes_as<WordDot>, tiles_of<>,
                              int8_pack_as<WordDot>,         int8_multiply_as<WordDot>,      round_rows_to_int8};

}  // namespace hadal::kernels::avx512
