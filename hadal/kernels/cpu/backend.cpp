#include "hadal/kernels/backend.h"

#include "hadal/kernels/cpu/schedule.h"
#include "hadal/kernels/row_ops.h"

namespace hadal::kernels::cpu {
namespace {

// On every instruction set: they are bound by memory.
constexpr RowKernels kRows = {avx2::rms_norm, avx2::swiglu, avx2::axpy, avx2::to_float};
using Rows = RowOps<kRows>;

Layout packed_layout(const Numerics& numerics) {
  return linear_kernels(numerics.isa).groups;
}

void attend_bounded(Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                    std::span<const CachedSequence> sequences) {
  attend_absorbed(ctx, args, heads, sequences, kPartialFloats);
}

WorkspaceNeed attend_bounded_need(const Context& ctx, const AbsorbedAttentionArgs& args, Index heads,
                                  std::span<const CachedSequence> sequences) {
  return attend_absorbed_need(ctx, args, heads, sequences, kPartialFloats);
}

}  // namespace

const Backend kBackend = {.packed_layout = packed_layout,
                          .linear = linear,
                          .absorb = absorb,
                          .expand = expand,
                          .pack_keys = pack_keys,
                          .attend_expanded = attend_expanded,
                          .attend_absorbed = attend_bounded,
                          .pack_entries = Rows::pack_entries,
                          .unpack_entries = Rows::unpack_entries,
                          .gate = Rows::gate,
                          .mixture = mixture,
                          .combine = Rows::combine,
                          .rms_norm = Rows::rms_norm,
                          .swiglu = Rows::swiglu,
                          .add = Rows::add,
                          .rope = Rows::rope,
                          .copy = Rows::copy,
                          .gather = Rows::gather,
                          .embedding = Rows::embedding,
                          .to_float = Rows::to_float,
                          .from_float = Rows::from_float,
                          .linear_need = linear_need,
                          .expand_need = expand_need,
                          .attend_expanded_need = attend_expanded_need,
                          .attend_absorbed_need = attend_bounded_need,
                          .mixture_need = mixture_need,
                          .gate_need = Rows::gate_need};

}  // namespace hadal::kernels::cpu
