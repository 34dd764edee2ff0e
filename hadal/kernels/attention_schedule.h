// Whole passes of attention on a CPU: the kernels of attention.h cut for the threads, with the memory they need.
#pragma once

#include <span>

#include "hadal/core/context.h"
#include "hadal/kernels/attention.h"

namespace hadal::kernels {

// Queries [begin, end) of a pass, at positions first_position on, and the entries of their sequence's cache in pages of
// kAbsorbedBlock; the last one may hold fewer.
struct CachedSequence {
  Index begin = 0, end = 0;
  Index first_position = 0;
  std::span<const void* const> pages = {};
  StoredEntries stored = {};  // how entries lie in a page; without `rows`
  Index keys(Index query) const { return first_position + query - begin + 1; }
};

namespace ref {
void attend_expanded(Context& ctx, const ExpandedAttentionArgs& args, Index tokens, Index heads);
void attend_absorbed(Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                     std::span<const CachedSequence> sequences);
}  // namespace ref

namespace cpu {

// What partial results may take at a time: 36 MiB, unless those of 32 heads of one query are more (beyond 72k tokens
// with a latent of 512).
inline constexpr Index kPartialFloats = Index{9} << 20;

void attend_expanded(Context& ctx, const ExpandedAttentionArgs& args, Index tokens, Index heads);
// The same bits whatever `partial_floats` is.
void attend_absorbed(Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                     std::span<const CachedSequence> sequences, Index partial_floats = kPartialFloats);

}  // namespace cpu
}  // namespace hadal::kernels
