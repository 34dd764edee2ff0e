// Quantisation of weights to INT8 and INT4, and back from every format of ops/weight.h. Codes are x / scale, divided,
// to nearest with ties to even; a part without anything but zeros has scale 1.
#pragma once

#include <cstdint>

#include "hadal/core/context.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// x F32 [R, C] -> codes I8 [R, C] in [-127, 127] and scale F32 [num_blocks(R), num_blocks(C)]: amax / 127 of each block
// of 128x128. The layout of the published Block-INT8 checkpoints.
void quantize_int8_blocks(Context& ctx, const ConstTensorRef& x, const TensorRef& codes, const TensorRef& scale);

// The same with one scale a row, F32 [R, 1]: Channel-INT8, and compressed-tensors' int-quantized.
void quantize_int8_rows(Context& ctx, const ConstTensorRef& x, const TensorRef& codes, const TensorRef& scale);

// x F32 [R, C] -> packed I32 [R, ceil(C / 8)] and scale BF16 [R, ceil(C / group)]: compressed-tensors' symmetric
// pack-quantized. The scale is amax / 7.5 of the group, rounded to BF16 before it divides; codes lie in [-8, 7] and are
// stored plus 8.
void quantize_int4(Context& ctx, const ConstTensorRef& x, Index group, const TensorRef& packed, const TensorRef& scale);

// y F32 [R, C]: the F32 product of each code with its scale, of E4M3, I8 and INT4 weights alike.
void dequantize(Context& ctx, const Weight& w, const TensorRef& y);

// Eight 4-bit codes a word, the first in the low bits; a last word that is not full has zeros.
void pack_int4(const std::uint8_t* codes, Index count, std::int32_t* words);

}  // namespace hadal::ops
