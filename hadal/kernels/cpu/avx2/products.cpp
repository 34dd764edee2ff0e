#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/tile.h"
// The vector header comes first.
#include "hadal/kernels/cpu/products_impl.h"

namespace hadal::kernels::avx2 {

const ProductKernels kProducts = kProductTable;

}  // namespace hadal::kernels::avx2
