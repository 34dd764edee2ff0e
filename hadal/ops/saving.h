// Operations of the forward pass that also hand out what a backward pass needs again.
#pragma once

#include "hadal/ops/attention.h"
#include "hadal/ops/elementwise.h"

namespace hadal::ops {

// rms_norm, and 1 / sqrt(mean(x^2) + eps) to inverse_rms F32 [T].
TensorRef rms_norm(Context& ctx, const ConstTensorRef& x, const ConstTensorRef& weight, double eps,
                   const TensorRef& inverse_rms);

// attend_expanded, and the logarithm of every query's sum of exp(score) to lse F32 [T, H].
void attend_expanded(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                     Index first_position, double scale, const TensorRef& out, const TensorRef& lse);

}  // namespace hadal::ops
