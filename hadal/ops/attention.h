// Causal attention over a latent cache, in both forms of MLA (DeepSeek-V3 report, equation 10). A query sees all
// positions up to its own; results do not depend on how many queries come together.
#pragma once

#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"
#include "hadal/ops/latent_entry.h"

namespace hadal::ops {

// Sizes of a head: its keys have nope + rope values, its values v.
struct HeadSizes {
  Index nope = 0, rope = 0, v = 0;
};

// Keys and values as attention reads them, kKeyBlock positions at a time: a block is F32 [H, key_block_floats], so that
// its rows are heads. The last one may have room for fewer positions, a multiple of kKeyAlignment.
inline constexpr Index kKeyBlock = 256;
inline constexpr Index kKeyAlignment = 32;
Index key_block_floats(const HeadSizes& head, Index room = kKeyBlock);

// Blocks in ctx.workspace for the given number of positions.
std::vector<TensorRef> new_key_blocks(Context& ctx, const HeadSizes& head, Index heads, Index positions);

// kv [n, H, nope + v] with k_nope and v side by side, and k_pe [n, rope], of positions `begin` (a multiple of
// kKeyAlignment) on, to their places in the blocks of a sequence.
void pack_keys(Context& ctx, const ConstTensorRef& kv, const ConstTensorRef& k_pe, const HeadSizes& head, Index begin,
               std::span<const TensorRef> blocks);

// q [T, H, nope + rope]; query t stands at position first_position + t and the blocks have all keys that it sees.
// Writes out [T, H, v].
void attend_expanded(Context& ctx, const ConstTensorRef& q, std::span<const TensorRef> blocks, const HeadSizes& head,
                     Index first_position, double scale, const TensorRef& out);

WorkspaceNeed new_key_blocks_need(const HeadSizes& head, Index heads, Index positions);
WorkspaceNeed attend_expanded_need(const Context& ctx, const HeadSizes& head, Index tokens, Index first_position);

// Both: kv [L, H, nope + v] and k_pe [L, rope] are all that the queries see.
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
// Of `sequences` pages are not looked at.
WorkspaceNeed attend_absorbed_need(const Context& ctx, Index rows, Index heads, Index latent, Index rope,
                                   std::span<const CachedRows> sequences);

}  // namespace hadal::ops
