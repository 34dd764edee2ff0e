// Entries of the latent cache in FP8: what attention needs of a token and layer, in 656 bytes at V3's size. The rope
// part, which the scores are more sensitive to, stays in BF16.
#pragma once

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// The bytes of an entry: `latent` values in E4M3, a float32 scale for every 128 of them, `rope` values in BF16. Parts
// begin at multiples of 4 bytes.
struct Fp8Entry {
  Index latent = 0;
  Index rope = 0;

  Index num_scales() const { return num_blocks(latent); }
  Index scales_at() const { return (latent + 3) / 4 * 4; }
  Index rope_at() const { return scales_at() + 4 * num_scales(); }
  Index bytes() const { return rope_at() + (2 * rope + 3) / 4 * 4; }
};

// entries F32 [T, latent + rope] -> stored U8 [T, bytes]. The scale of a group is its largest magnitude (at least 1e-4)
// / 448, as for activations (rule 33); codes are value / scale.
void pack_entries(Context& ctx, const Fp8Entry& entry, const ConstTensorRef& entries, const TensorRef& stored);

// And back: the F32 product of each code with its group's scale, and the rope part.
void unpack_entries(Context& ctx, const Fp8Entry& entry, const ConstTensorRef& stored, const TensorRef& entries);

}  // namespace hadal::ops
