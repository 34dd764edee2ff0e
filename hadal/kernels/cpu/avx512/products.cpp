#define HADAL_ISA avx512
#include "hadal/kernels/cpu/avx512/vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/products_impl.h"

namespace hadal::kernels::avx512 {

const ProductKernels kProducts = kProductTable;

}  // namespace hadal::kernels::avx512
