// attention.h in AVX-512.
#define HADAL_ISA avx512
#include "hadal/kernels/cpu/avx512/vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/attention_impl.h"

namespace hadal::kernels::avx512 {

const AttentionKernels kAttention = kTable;

}  // namespace hadal::kernels::avx512
