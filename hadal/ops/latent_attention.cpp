#include "hadal/ops/latent_attention.h"

#include <algorithm>

namespace hadal::ops {
namespace {

// Bound on the expanded keys and values of a group of heads: 64 MiB.
constexpr Index kExpandedFloats = Index{1} << 24;

}  // namespace

void expand_and_attend(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& entries, const Weight& w_ukv,
                       HeadRows rows, Index first_position, double scale, const TensorRef& out) {
  const Index heads = q.size(1), per_head = rows.nope + rows.v, latent = w_ukv.num_columns();
  HADAL_CHECK(q.rank() == 3 && entries.rank() == 2 && w_ukv.num_rows() == heads * per_head &&
                  entries.size(1) == latent + q.size(2) - rows.nope,
              "expand_and_attend: q {}, entries {}, w_ukv {} by {}", q.shape().to_string(), entries.shape().to_string(),
              w_ukv.num_rows(), latent);
  const ConstTensorRef c_kv = entries.columns(0, latent), k_pe = entries.columns(latent, entries.size(1));
  const Index group = std::clamp<Index>(kExpandedFloats / (entries.size(0) * per_head), 1, heads);
  for (Index begin = 0; begin < heads; begin += group) {
    const Workspace::Scope scope(ctx.workspace);
    const Index end = std::min(begin + group, heads);
    const TensorRef kv =
        linear_not_fp8(ctx, c_kv, w_ukv.rows(begin * per_head, end * per_head)).split_last(end - begin, per_head);
    ctx.observe("keys_values", kv);
    attend_expanded(ctx, q.slice(1, begin, end), kv, k_pe, first_position, scale, out.slice(1, begin, end));
    ctx.observe("heads_out", out);
  }
}

}  // namespace hadal::ops
