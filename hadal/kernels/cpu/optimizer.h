// optimizer.h in float32 on AVX2.
#pragma once

#include "hadal/kernels/training.h"

namespace hadal::kernels::cpu {

void sums_of_squares(Context& ctx, std::span<const SquaresPart<float>> parts, double* sums);
void adamw(Context& ctx, const AdamWFactors& factors, DType moments, std::span<const AdamWPart<float>> parts);
void momentum(Context& ctx, const MomentumFactors& factors, DType moments, std::span<const MomentumPart<float>> parts);
void blend(Context& ctx, std::span<const BlendPart<float>> parts);

}  // namespace hadal::kernels::cpu
