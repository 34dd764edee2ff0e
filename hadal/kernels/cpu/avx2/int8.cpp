// Products with x rounded to int8, in AVX2: pairs of 16-bit products, tiles of 6 x 16.
#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/int8_vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/int8_impl.h"

namespace hadal::kernels::avx2 {

const RoundedKernels kInt8 = {int8_packed_bytes_as<WordDot>, int8_scratch_bytes_as<WordDot>, tiles_of<>,
                              int8_pack_as<WordDot>,         int8_multiply_as<WordDot>,      round_rows_to_int8};

}  // namespace hadal::kernels::avx2
