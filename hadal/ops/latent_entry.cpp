#include "hadal/ops/latent_entry.h"

#include "hadal/kernels/attention.h"
#include "hadal/kernels/work.h"

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
  const Index rows = values.shape[0], work = values.shape[1] * kValueWork;
  ctx.threads.parallel_for(rows, kernels::piece_size(ctx, rows, work, 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) body(values.row(r), bytes.row(r));
  });
}

}  // namespace

void pack_entries(Context& ctx, const Fp8Entry& e, const TensorRef& entries, const TensorRef& stored) {
  for_each_entry(ctx, e, entries, stored, [&](const float* x, std::uint8_t* to) {
    kernels::ref::pack_entry(x, e.latent, e.rope, e.scales_at(), e.rope_at(), to);
  });
}

void unpack_entries(Context& ctx, const Fp8Entry& e, const TensorRef& stored, const TensorRef& entries) {
  for_each_entry(ctx, e, entries, stored, [&](float* x, const std::uint8_t* from) {
    kernels::ref::unpack_entry(from, e.latent, e.rope, e.scales_at(), e.rope_at(), x);
  });
}

}  // namespace hadal::ops
