#include "hadal/ops/latent_entry.h"

#include "hadal/kernels/backend.h"

namespace hadal::ops {
namespace {

kernels::PackedEntries packed_entries(const char* op, const Fp8Entry& entry, const ConstTensorRef& entries,
                                      const ConstTensorRef& stored) {
  HADAL_CHECK(entries.rank() == 2 && stored.rank() == 2 && entries.size(0) == stored.size(0) &&
                  entries.size(1) == entry.latent + entry.rope && stored.size(1) == entry.bytes(),
              "{}: entries {} and {} bytes, for a latent of {} and a rope part of {}", op, entries.shape().to_string(),
              stored.shape().to_string(), entry.latent, entry.rope);
  return {.row_bytes = stored.stride(0),
          .rows = stored.size(0),
          .latent = entry.latent,
          .rope = entry.rope,
          .scales_at = entry.scales_at(),
          .rope_at = entry.rope_at()};
}

}  // namespace

void pack_entries(Context& ctx, const Fp8Entry& entry, const ConstTensorRef& entries, const TensorRef& stored) {
  const kernels::PackedEntries layout = packed_entries("pack_entries", entry, entries, stored);
  kernels::backend(ctx).pack_entries(ctx, entries.view_on<float, 2>(ctx.device), layout,
                                     stored.data_on<std::uint8_t>(ctx.device));
}

void unpack_entries(Context& ctx, const Fp8Entry& entry, const ConstTensorRef& stored, const TensorRef& entries) {
  const kernels::PackedEntries layout = packed_entries("unpack_entries", entry, entries, stored);
  kernels::backend(ctx).unpack_entries(ctx, stored.data_on<std::uint8_t>(ctx.device), layout,
                                       entries.view_on<float, 2>(ctx.device));
}

}  // namespace hadal::ops
