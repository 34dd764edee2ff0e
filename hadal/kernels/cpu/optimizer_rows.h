// Elements of a piece of optimizer.h in float32. AVX2 on every instruction set but ref.
#pragma once

#include "hadal/kernels/optimizer.h"

namespace hadal::kernels::avx2 {

double squares(const float* x, Index n);
// `decay` and the moments' elements: AdamWPart's. Moments are float or bf16.
void adamw(const AdamWFactors& f, const float* grad, float* first, float* second, float* value, Index n, double decay);
void adamw(const AdamWFactors& f, const float* grad, bf16* first, bf16* second, float* value, Index n, double decay);
void momentum(const MomentumFactors& f, const float* grad, float* momentum, float* update, Index n);
void momentum(const MomentumFactors& f, const float* grad, bf16* momentum, float* update, Index n);
void blend(const float* x, float of_x, float* y, float of_y, Index n);  // y = of_x x + of_y y
void scaled(const float* x, float of_x, float* y, Index n);             // y = of_x x

}  // namespace hadal::kernels::avx2
