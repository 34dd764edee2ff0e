// Products of float32 activations with integer weights, in AVX512-VNNI.
#define HADAL_ISA avx512bf16
#include "hadal/kernels/cpu/avx512/vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/avx512bf16/fixed_point.h"

namespace hadal::kernels::avx512bf16 {

const RoundedKernels kFixedPoint = {packed_bytes_fixed, scratch_bytes_fixed, tiles_of<FixedStep>, pack_fixed,
                                    multiply_fixed, nullptr};

}  // namespace hadal::kernels::avx512bf16
