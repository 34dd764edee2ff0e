// Products of training.h by pieces, for one instruction set.
#pragma once

#include "hadal/core/numerics.h"
#include "hadal/kernels/training.h"

namespace hadal::kernels {

struct ProductKernels {
  Index piece_rows, piece_columns;  // at most
  Index (*scratch_floats)();
  void (*piece)(const Product<float>& product, Index row_begin, Index row_end, Index column_begin, Index column_end,
                float* scratch);
};

namespace avx2 {
extern const ProductKernels kProducts;
}
namespace avx512 {
extern const ProductKernels kProducts;
}

namespace cpu {
extern const TrainingKernels<float> kTraining;
}

}  // namespace hadal::kernels
