// Attention in the expanded form straight from the latent cache (DeepSeek-V3 report, equations 2, 5, 10).
#pragma once

#include <vector>

#include "hadal/ops/expanded_keys.h"
#include "hadal/ops/linear.h"

namespace hadal::ops {

// The entries of a sequence as they lie in its cache: pages as CachedRows has them. `kept`, if it is not null, has the
// keys and values of some of them already and is given those of the others.
struct CachedEntries {
  std::vector<ConstTensorRef> pages;
  Fp8Entry fp8;
  ExpandedKeys* kept = nullptr;
};

// Entries [begin, end) as F32 [end - begin, latent + rope]: a reference where they are so, one after another, otherwise
// a copy in ctx.workspace.
ConstTensorRef read_entries(Context& ctx, const CachedEntries& entries, Index begin, Index end);

// Per head: rows of w_ukv that make k_nope, then rows that make v.
struct HeadRows {
  Index nope, v;
};

// q [T, H, nope + rope]; w_ukv [H * (nope + v), c]. Query t stands at position first_position + t and sees the entries
// up to its own. Writes out [T, H, v]. Keys and values that are not kept are made a group of heads at a time, so that
// they take at most 128 MiB or one head's. Observers see them as "keys_values", some positions at a time, and the
// result of each group as "heads_out".
void expand_and_attend(Context& ctx, const ConstTensorRef& q, const CachedEntries& entries, const Weight& w_ukv,
                       HeadRows rows, Index first_position, double scale, const TensorRef& out);
// For that many tokens and heads; of `entries` pages are not looked at.
WorkspaceNeed expand_and_attend_need(const Context& ctx, Index tokens, Index heads, const CachedEntries& entries,
                                     const Weight& w_ukv, HeadRows rows, Index first_position);

}  // namespace hadal::ops
