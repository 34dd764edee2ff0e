// AutoAWQ's "gemm" layout, turned into the packed INT4 of weight.h. AWQ stores a matrix by inputs, eight outputs a word
// in the order 0 2 4 6 1 3 5 7 from the low bits on; zero points alike; value = (code - zero) * scale.
// Source: casper-hansen/AutoAWQ, awq/modules/linear/gemm.py and awq/utils/packing_utils.py.
#pragma once

#include "hadal/core/tensor.h"
#include "hadal/core/thread_pool.h"

namespace hadal::ops {

struct AwqMatrix {
  ConstTensorRef qweight;  // I32 [K, N / 8]
  ConstTensorRef qzeros;   // I32 [ceil(K / group), N / 8]
  ConstTensorRef scales;   // [ceil(K / group), N], F16, BF16 or F32
};

// Outputs [begin, end), multiples of 8: packed I32 [end - begin, ceil(K / 8)], zero U8 and scale (dtype of `scales`)
// [end - begin, ceil(K / group)]. Shapes are checked. `threads` may be null.
void repack_awq(const AwqMatrix& from, Index begin, Index end, const TensorRef& packed, const TensorRef& zero,
                const TensorRef& scale, ThreadPool* threads);

}  // namespace hadal::ops
