// Attention in the expanded form straight from the latent cache (DeepSeek-V3 report, equations 2, 5, 10).
#pragma once

#include "hadal/ops/attention.h"
#include "hadal/ops/linear.h"

namespace hadal::ops {

// Per head: rows of w_ukv that make k_nope, then rows that make v.
struct HeadRows {
  Index nope, v;
};

// q [T, H, nope + rope]; entries [L, c + rope] in F32, latents and rotated keys of all positions; w_ukv [H * (nope +
// v), c]. Query t stands at position first_position + t. Writes out [T, H, v]. Keys and values are made a group of
// heads at a time, so that they take at most 64 MiB or one head's. Observers see them as "keys_values", and the result
// of each group as "heads_out".
void expand_and_attend(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& entries, const Weight& w_ukv,
                       HeadRows rows, Index first_position, double scale, const TensorRef& out);

}  // namespace hadal::ops
