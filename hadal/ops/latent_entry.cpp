#include "hadal/ops/latent_entry.h"

#include <algorithm>

#include "hadal/core/number_formats.h"
#include "hadal/kernels/elementwise.h"
#include "hadal/ops/work.h"

namespace hadal::ops {
namespace {

constexpr Index kValueWork = 8;  // a conversion beside a multiply-add

template <class Body>
void for_each_entry(Context& ctx, const Fp8Entry& entry, const TensorRef& entries, const TensorRef& stored,
                    const Body& body) {
  const auto values = entries.view<float, 2>();
  const auto bytes = stored.view<std::uint8_t, 2>();
  HADAL_CHECK(values.shape[1] == entry.latent + entry.rope && bytes.shape[1] == entry.bytes() &&
                  values.shape[0] == bytes.shape[0],
              "latent entries: shapes are {} and {}", entries.shape().to_string(), stored.shape().to_string());
  const Index rows = values.shape[0];
  ctx.threads.parallel_for(rows, piece_size(ctx, rows, values.shape[1] * kValueWork, 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      std::uint8_t* to = bytes.row(r);
      body(values.row(r), to, reinterpret_cast<float*>(to + entry.scales_at()),
           reinterpret_cast<bf16*>(to + entry.rope_at()));
    }
  });
}

}  // namespace

void pack_entries(Context& ctx, const Fp8Entry& entry, const TensorRef& entries, const TensorRef& stored) {
  for_each_entry(ctx, entry, entries, stored, [&](const float* x, std::uint8_t* codes, float* scales, bf16* rope) {
    for (Index g = 0; g < entry.num_scales(); ++g) {
      const Index begin = g * kBlock, count = std::min(kBlock, entry.latent - begin);
      scales[g] = kernels::ref::quantize_tile(x + begin, codes + begin, nullptr, count, false);
    }
    for (Index i = 0; i < entry.rope; ++i) rope[i] = float_to_bf16(x[entry.latent + i]);
  });
}

void unpack_entries(Context& ctx, const Fp8Entry& entry, const TensorRef& stored, const TensorRef& entries) {
  for_each_entry(ctx, entry, entries, stored,
                 [&](float* x, const std::uint8_t* codes, const float* scales, const bf16* rope) {
                   for (Index i = 0; i < entry.latent; ++i) x[i] = e4m3_to_float({codes[i]}) * scales[i / kBlock];
                   for (Index i = 0; i < entry.rope; ++i) x[entry.latent + i] = bf16_to_float(rope[i]);
                 });
}

}  // namespace hadal::ops
