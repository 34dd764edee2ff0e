// linear.h in AVX-512: sixteen outputs a vector, tiles of 12 x 32.
#define HADAL_ISA avx512
#include "hadal/kernels/cpu/avx512/vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/linear_table.h"

namespace hadal::kernels::avx512 {

const LinearKernels kLinear = {packed_bytes_f32, scratch_bytes, tiles_of<>, nullptr,
                               pack_tiles_f32,   multiply_f32,  kSetRows,   kPanelSetRows,
                               transposed,       group_rows,    nullptr,    Layout::kGroups64};

}  // namespace hadal::kernels::avx512
