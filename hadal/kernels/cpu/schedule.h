// Whole operations by the kernels of an instruction set, cut for the threads: what cpu::kBackend is made of.
#pragma once

#include "hadal/kernels/backend.h"

namespace hadal::kernels::cpu {

void linear(Context& ctx, std::span<const LinearArgs> products, bool ue8m0);
void absorb(Context& ctx, const HeadsArgs& args);
void expand(Context& ctx, const HeadsArgs& args);
void mixture(Context& ctx, const MixtureArgs& args);

void pack_keys(Context& ctx, const NewKeysArgs& args, Index heads, std::span<const KeyBlock> blocks);
void attend_expanded(Context& ctx, const ExpandedAttentionArgs& args, Index tokens, Index heads);

// What partial results of absorbed attention may take at a time: 36 MiB, unless those of 32 heads of one query are more
// (beyond 72k tokens with a latent of 512).
inline constexpr Index kPartialFloats = Index{9} << 20;
// The same bits whatever `partial_floats` is.
void attend_absorbed(Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                     std::span<const CachedSequence> sequences, Index partial_floats);

}  // namespace hadal::kernels::cpu
