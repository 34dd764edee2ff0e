// Operations of the forward pass that also hand out what a backward pass needs again.
#pragma once

#include "hadal/ops/attention.h"
#include "hadal/ops/elementwise.h"

namespace hadal::ops {

// rms_norm, and 1 / sqrt(mean(x^2) + eps) to inverse_rms F32 [T].
TensorRef rms_norm(Context& ctx, const TensorRef& x, const TensorRef& weight, double eps, const TensorRef& inverse_rms);

// attend_expanded, and the logarithm of every query's sum of exp(score) to lse F32 [T, H].
void attend_expanded(Context& ctx, const TensorRef& q, const TensorRef& kv, const TensorRef& k_pe, Index first_position,
                     double scale, const TensorRef& out, const TensorRef& lse);

}  // namespace hadal::ops
