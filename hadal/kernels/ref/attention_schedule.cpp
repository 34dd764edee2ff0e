#include <algorithm>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/ref/schedule.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels::ref {
namespace {

// Runs one(token, head, scores) for all tokens and heads with scratch for the scores of the longest row.
template <class One>
void for_each_query(Context& ctx, Index tokens, Index heads, Index keys, Index width, const One& one) {
  const Workspace::Scope scope(ctx.workspace);
  const Index longest = (keys + 7) / 8 * 8;
  const TensorRef scores = ctx.workspace.floats({ctx.threads.num_threads(), longest});
  ctx.threads.parallel_for(tokens * heads, piece_size(ctx, tokens * heads, longest * width, 1),
                           [&](Index begin, Index end) {
                             float* scratch = scores.data<float>() + ThreadPool::current_thread() * longest;
                             for (Index i = begin; i < end; ++i) one(i % tokens, i / tokens, scratch);
                           });
}

// All entries that the sequence's last query sees, as float32 without gaps.
TensorRef gather_entries(Context& ctx, const CachedSequence& s, Index latent, Index rope) {
  const TensorRef entries = ctx.workspace.floats({s.keys(s.end - 1), latent + rope});
  const auto to = entries.view<float, 2>();
  for (Index i = 0; i < to.shape[0]; ++i) {
    const auto* page = static_cast<const std::byte*>(s.pages[static_cast<std::size_t>(i / kAbsorbedBlock)]);
    const std::byte* row = page + i % kAbsorbedBlock * s.stored.row_bytes;
    if (s.stored.dtype == DType::kU8)
      unpack_entry(row, latent, rope, s.stored.scales_at, s.stored.rope_at, to.row(i));
    else
      to_float(row, s.stored.dtype, to.row(i), latent + rope);
  }
  return entries;
}

}  // namespace

void pack_keys(Context& ctx, const NewKeysArgs& a, Index heads, std::span<const KeyBlock> blocks) {
  const Index first = a.begin / kExpandedBlock, last = (a.end + kExpandedBlock - 1) / kExpandedBlock;
  ctx.threads.parallel_for(heads, 1, [&](Index head, Index) {
    for (Index b = first; b < last; ++b)
      pack_keys(a, head, std::max(b * kExpandedBlock, a.begin), std::min((b + 1) * kExpandedBlock, a.end),
                blocks[static_cast<std::size_t>(b)]);
  });
}

void attend_expanded(Context& ctx, const ExpandedAttentionArgs& a, Index tokens, Index heads) {
  for_each_query(ctx, tokens, heads, a.first_position + tokens, a.nope + a.rope + a.v,
                 [&](Index token, Index head, float* scores) { attend_expanded(a, token, head, scores); });
}

void attend_absorbed(Context& ctx, const AbsorbedAttentionArgs& a, Index heads,
                     std::span<const CachedSequence> sequences) {
  for (const CachedSequence& s : sequences) {
    if (s.begin == s.end) continue;
    const Workspace::Scope scope(ctx.workspace);
    AbsorbedAttentionArgs part = a;
    part.q_latent += s.begin * a.q_latent_token_stride;
    part.q_pe += s.begin * a.q_pe_token_stride;
    part.out += s.begin * a.out_token_stride;
    part.cache = gather_entries(ctx, s, a.latent, a.rope).data<float>();
    part.cache_stride = a.latent + a.rope;
    part.first_position = s.first_position;
    for_each_query(ctx, s.end - s.begin, heads, s.keys(s.end - 1), 2 * a.latent + a.rope,
                   [&](Index token, Index head, float* scores) { attend_absorbed(part, token, head, scores); });
  }
}

}  // namespace hadal::kernels::ref
