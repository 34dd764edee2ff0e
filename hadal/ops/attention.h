// Causal attention of one sequence over its latent cache, in both forms of MLA (DeepSeek-V3 report, equation 10). Query
// t stands at position first_position + t and sees all positions up to its own; results do not depend on how many
// queries come together.
#pragma once

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"

namespace hadal::ops {

// q [T, H, nope + rope]; kv [L, H, nope + v] with k_nope and v side by side; k_pe [L, rope]. Writes out [T, H, v].
void attend_expanded(Context& ctx, const TensorRef& q, const TensorRef& kv, const TensorRef& k_pe, Index first_position,
                     double scale, const TensorRef& out);

// q_latent [T, H, latent], q_pe [T, H, rope], cache [L, latent + rope] -> [T, H, latent].
TensorRef attend_absorbed(Context& ctx, const TensorRef& q_latent, const TensorRef& q_pe, const TensorRef& cache,
                          Index first_position, double scale);

}  // namespace hadal::ops
