// attention.h in AVX2.
#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/rows.h"
// The vector header comes first.
#include "hadal/kernels/cpu/attention_impl.h"

namespace hadal::kernels::avx2 {

const AttentionKernels kAttention = kTable;

}  // namespace hadal::kernels::avx2
