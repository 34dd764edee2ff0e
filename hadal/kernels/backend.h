// What a kind of device computes, one function per operation: ops/* check shapes, make room for the results and call
// these with plain pointers. Pointers are the device's own; spans are host memory. A back end is a folder of kernels/
// with a table of this type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "hadal/core/workspace_need.h"
#include "hadal/kernels/attention.h"
#include "hadal/kernels/gate.h"
#include "hadal/kernels/heads.h"
#include "hadal/kernels/linear.h"
#include "hadal/kernels/mixture.h"

namespace hadal {
class Context;
}

namespace hadal::kernels {

// A matrix in any float dtype; rows lie row_bytes apart. Byte is const where it is read only.
template <class Byte>
struct StoredRows {
  Byte* data = nullptr;
  DType dtype = DType::kF32;
  Index row_bytes = 0;
  Index rows = 0, width = 0;
  Byte* row(Index i) const { return data + i * row_bytes; }
};

// Entries of a latent cache in FP8, U8 [rows, row_bytes]; parts as in ops/latent_entry.h.
struct PackedEntries {
  Index row_bytes = 0, rows = 0;
  Index latent = 0, rope = 0, scales_at = 0, rope_at = 0;
};

struct Backend {
  // The layout that it reads beside rows; kRows: no other.
  Layout (*packed_layout)(const Numerics& numerics);

  // Products of one input: all have the same x and m. `ue8m0`: kFp8 rounds its scales to powers of two.
  void (*linear)(Context& ctx, std::span<const LinearArgs> products, bool ue8m0);
  void (*absorb)(Context& ctx, const HeadsArgs& args);
  void (*expand)(Context& ctx, const HeadsArgs& args);

  // `blocks` are all of a sequence's, from position 0.
  void (*pack_keys)(Context& ctx, const NewKeysArgs& args, Index heads, std::span<const KeyBlock> blocks);
  void (*attend_expanded)(Context& ctx, const ExpandedAttentionArgs& args, Index tokens, Index heads);
  void (*attend_absorbed)(Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                          std::span<const CachedSequence> sequences);
  void (*pack_entries)(Context& ctx, View<const float, 2> entries, const PackedEntries& layout, std::uint8_t* stored);
  void (*unpack_entries)(Context& ctx, const std::uint8_t* stored, const PackedEntries& layout, View<float, 2> entries);

  void (*gate)(Context& ctx, const GateArgs& args, View<const float, 2> logits, View<std::int32_t, 2> experts,
               View<float, 2> weights);
  void (*mixture)(Context& ctx, const MixtureArgs& args);
  void (*combine)(Context& ctx, const CombineArgs& args);

  // inverse_rms [T]: null if nobody needs it.
  void (*rms_norm)(Context& ctx, View<const float, 2> x, const float* weight, float eps, View<float, 2> y,
                   float* inverse_rms);
  void (*swiglu)(Context& ctx, View<const float, 2> gate, View<const float, 2> up, View<float, 2> y);
  void (*add)(Context& ctx, View<const float, 2> x, View<float, 2> y);  // y += x
  void (*rope)(Context& ctx, View<const float, 3> x, View<const double, 2> cos, View<const double, 2> sin,
               View<float, 3> y);
  void (*copy)(Context& ctx, View<const float, 3> x, View<float, 3> y);
  void (*gather)(Context& ctx, View<const float, 2> x, std::span<const Index> rows, View<float, 2> y);
  void (*embedding)(Context& ctx, const StoredRows<const std::byte>& table, std::span<const std::int32_t> ids,
                    View<float, 2> y);
  void (*to_float)(Context& ctx, const StoredRows<const std::byte>& from, View<float, 2> to);
  void (*from_float)(Context& ctx, View<const float, 2> from, const StoredRows<std::byte>& to);

  // What the functions above take of ctx.workspace at most, where they take anything. `products` and `args` have
  // weights, activations and sizes, and no x and y.
  WorkspaceNeed (*linear_need)(const Context& ctx, std::span<const LinearArgs> products);
  WorkspaceNeed (*expand_need)(const Context& ctx, const LinearArgs& head);
  WorkspaceNeed (*attend_expanded_need)(const Context& ctx, const ExpandedAttentionArgs& args, Index tokens);
  WorkspaceNeed (*attend_absorbed_need)(const Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                                        std::span<const CachedSequence> sequences);
  WorkspaceNeed (*mixture_need)(const Context& ctx, const MixtureSizes& sizes);
  WorkspaceNeed (*gate_need)(const Context& ctx, Index n_routed_experts);
};

// By the context's device; on the host the scalar oracle for kRef, the fast kernels of the instruction set otherwise.
const Backend& backend(const Context& ctx);

namespace ref {
extern const Backend kBackend;
}
namespace cpu {
extern const Backend kBackend;
}
namespace gpu {  // of the folder kernels/gpu, or stub/gpu.cpp, which throws, where HADAL_BACKENDS does not name it
extern const Backend kBackend;
}

// Network by network, from the back end's other operations.
void plain_mixture(Context& ctx, const Backend& backend, const MixtureArgs& args);
WorkspaceNeed plain_mixture_need(const Context& ctx, const Backend& backend, const MixtureSizes& sizes);

}  // namespace hadal::kernels
