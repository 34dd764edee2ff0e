#include "hadal/ops/latent_entry.h"

#include "hadal/kernels/backend.h"

namespace hadal::ops {
namespace {

kernels::PackedEntries packed_entries(const char* op, const Fp8Entry& entry, const TensorRef& entries,
                                      const TensorRef& stored) {
  HADAL_CHECK(entries.rank() == 2 && stored.rank() == 2 && entries.size(0) == stored.size(0) &&
                  entries.size(1) == entry.latent + entry.rope && stored.size(1) == entry.bytes(),
              "{}: entries {} and {} bytes, for a latent of {} and a rope part of {}", op, entries.shape().to_string(),
              stored.shape().to_string(), entry.latent, entry.rope);
  return {.data = stored.data<std::uint8_t>(),
          .row_bytes = stored.stride(0),
          .rows = stored.size(0),
          .latent = entry.latent,
          .rope = entry.rope,
          .scales_at = entry.scales_at(),
          .rope_at = entry.rope_at()};
}

}  // namespace

void pack_entries(Context& ctx, const Fp8Entry& entry, const TensorRef& entries, const TensorRef& stored) {
  kernels::backend(ctx.numerics.isa)
      .pack_entries(ctx, entries.view<const float, 2>(), packed_entries("pack_entries", entry, entries, stored));
}

void unpack_entries(Context& ctx, const Fp8Entry& entry, const TensorRef& stored, const TensorRef& entries) {
  kernels::backend(ctx.numerics.isa)
      .unpack_entries(ctx, packed_entries("unpack_entries", entry, entries, stored), entries.view<float, 2>());
}

}  // namespace hadal::ops
