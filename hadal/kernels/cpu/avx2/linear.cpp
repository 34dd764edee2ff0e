// linear.h in AVX2: eight outputs a vector, tiles of 6 x 16.
#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/tile.h"
// The vector header comes first.
#include "hadal/kernels/cpu/avx2/int4_rows.h"
#include "hadal/kernels/cpu/linear_table.h"

namespace hadal::kernels::avx2 {

const LinearKernels kLinear = {packed_bytes_f32, scratch_bytes, tiles_of<>, nullptr,
                               pack_tiles_f32,   multiply_f32,  kSetRows,   kPanelSetRows,
                               transposed,       group_rows,    nullptr,    Layout::kGroups32};

}  // namespace hadal::kernels::avx2
