#include "hadal/kernels/backend.h"

#include "hadal/kernels/ref/schedule.h"
#include "hadal/kernels/row_ops.h"

namespace hadal::kernels::ref {
namespace {

constexpr RowKernels kRows = {rms_norm, swiglu, axpy, to_float};
using Rows = RowOps<kRows>;

Layout packed_layout(const Numerics&) {
  return Layout::kRows;
}

void mixture(Context& ctx, const MixtureArgs& args) {
  plain_mixture(ctx, kBackend, args);
}

WorkspaceNeed mixture_need(const Context& ctx, const MixtureSizes& sizes) {
  return plain_mixture_need(ctx, kBackend, sizes);
}

}  // namespace

const Backend kBackend = {.packed_layout = packed_layout,
                          .linear = linear,
                          .absorb = absorb,
                          .expand = expand,
                          .pack_keys = pack_keys,
                          .attend_expanded = attend_expanded,
                          .attend_absorbed = attend_absorbed,
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
                          .attend_absorbed_need = attend_absorbed_need,
                          .mixture_need = mixture_need,
                          .gate_need = Rows::gate_need};

}  // namespace hadal::kernels::ref
