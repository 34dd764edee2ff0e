// Quantisation of weights to E4M3 with one scale per 128x128 block, and back (DeepSeek-V3 report, section 3.3.2).
#pragma once

#include "hadal/core/context.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// x F32 [R, C] -> codes F8_E4M3 [R, C] and scale F32 [num_blocks(R), num_blocks(C)], both given. The scale of a block
// is amax / 448 (`ue8m0`: rounded up to a power of two), 1 for a block of zeros, not finite if a value is not; codes
// are x / scale, divided, not multiplied by a reciprocal.
void quantize_blocks(Context& ctx, const ConstTensorRef& x, bool ue8m0, const TensorRef& codes, const TensorRef& scale);

// y F32 [R, C]: the F32 product of each code with its block's scale.
void dequantize_blocks(Context& ctx, const Weight& w, const TensorRef& y);

}  // namespace hadal::ops
