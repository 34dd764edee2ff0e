// Causal attention over a latent cache, in both forms of MLA (DeepSeek-V3 report, equation 10). A query sees all
// positions up to its own; results do not depend on how many queries come together.
#pragma once

#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"
#include "hadal/ops/latent_entry.h"

namespace hadal::ops {

// q [T, H, nope + rope]; kv [L, H, nope + v] with k_nope and v side by side; k_pe [L, rope]. Query t stands at position
// first_position + t. Writes out [T, H, v].
void attend_expanded(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                     Index first_position, double scale, const TensorRef& out);

// Entries of a page of a cache.
inline constexpr Index kPageTokens = 128;

// Rows [begin, end) of the queries, at positions first_position on, and the cache they look at, as it is stored, in
// pages [kPageTokens, latent + rope] in F32 or BF16 or [kPageTokens, fp8.bytes()] in U8; the last one may have fewer
// rows, as long as it has those that are looked at. Rows of a page are contiguous.
struct CachedRows {
  Index begin = 0, end = 0;
  Index first_position = 0;
  std::span<const ConstTensorRef> pages = {};
  Fp8Entry fp8 = {};
};

// A cache in one piece [L, ...] as pages.
std::vector<ConstTensorRef> pages_of(const ConstTensorRef& entries);

// q_latent [T, H, latent], q_pe [T, H, rope] -> [T, H, latent].
TensorRef attend_absorbed(Context& ctx, const ConstTensorRef& q_latent, const ConstTensorRef& q_pe,
                          std::span<const CachedRows> sequences, double scale);

}  // namespace hadal::ops
