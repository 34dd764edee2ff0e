// Whole operations by the scalar kernels, cut for the threads: what ref::kBackend is made of.
#pragma once

#include "hadal/kernels/backend.h"

namespace hadal::kernels::ref {

void linear(Context& ctx, std::span<const LinearArgs> products, bool ue8m0);
void absorb(Context& ctx, const HeadsArgs& args);
void expand(Context& ctx, const HeadsArgs& args);
void pack_keys(Context& ctx, const NewKeysArgs& args, Index heads, std::span<const KeyBlock> blocks);
void attend_expanded(Context& ctx, const ExpandedAttentionArgs& args, Index tokens, Index heads);
void attend_absorbed(Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                     std::span<const CachedSequence> sequences);

}  // namespace hadal::kernels::ref
