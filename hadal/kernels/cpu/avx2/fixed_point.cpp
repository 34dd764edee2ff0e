// Products of float32 activations with INT4 weights, in AVX2.
#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/fixed_point.h"

namespace hadal::kernels::avx2 {

const RoundedKernels kFixedPoint = {int8_packed_bytes_as<FixedDot>, int8_scratch_bytes_as<FixedDot>,       tiles_of<>,
                                    int8_pack_as<FixedDot>,         int8_multiply_by<FixedDot, Int4Codes>, nullptr};

}  // namespace hadal::kernels::avx2
