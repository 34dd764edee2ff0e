#include "hadal/ops/attention.h"

#include <algorithm>
#include <vector>

#include "hadal/kernels/backend.h"
#include "hadal/ops/saving.h"

namespace hadal::ops {
namespace {

using kernels::AbsorbedAttentionArgs;
using kernels::CachedSequence;
using kernels::ExpandedAttentionArgs;

static_assert(kPageTokens == kernels::kAbsorbedBlock);
static_assert(kKeyBlock == kernels::kExpandedBlock && kKeyAlignment == kernels::kKeyAlignment);

Index padded(Index positions) {
  return (positions + kKeyAlignment - 1) / kKeyAlignment * kKeyAlignment;
}

// Those of positions [0, end); there must be room.
std::vector<kernels::KeyBlock> key_blocks(const Context& ctx, const char* op, std::span<const TensorRef> blocks,
                                          const HeadSizes& head, Index heads, Index end) {
  std::vector<kernels::KeyBlock> out;
  for (Index begin = 0; begin < end; begin += kKeyBlock) {
    const auto i = static_cast<std::size_t>(begin / kKeyBlock);
    HADAL_CHECK(i < blocks.size(), "{}: {} positions do not fit into {} blocks", op, end, blocks.size());
    const Index room = blocks[i].size(-1) / key_block_floats(head, 1);
    HADAL_CHECK(blocks[i].rank() == 2 && blocks[i].size(0) == heads && room % kKeyAlignment == 0 &&
                    room >= std::min(kKeyBlock, end - begin),
                "{}: block {} is {}, for {} heads of {}, {} and {} and {} positions", op, i,
                blocks[i].shape().to_string(), heads, head.nope, head.rope, head.v, end);
    out.push_back({blocks[i].data_on<float>(ctx.device), blocks[i].stride(0), room});
  }
  return out;
}

ExpandedAttentionArgs expanded_args(const Context& ctx, const ConstTensorRef& q,
                                    std::span<const kernels::KeyBlock> keys, const HeadSizes& head,
                                    Index first_position, double scale, const TensorRef& out) {
  ExpandedAttentionArgs a;
  a.q = q.data_on<float>(ctx.device);
  a.q_token_stride = q.stride(0);
  a.q_head_stride = q.stride(1);
  a.keys = keys;
  a.out = out.data_on<float>(ctx.device);
  a.out_token_stride = out.stride(0);
  a.out_head_stride = out.stride(1);
  a.nope = head.nope;
  a.rope = head.rope;
  a.v = head.v;
  a.first_position = first_position;
  a.scale = static_cast<float>(scale);
  return a;
}

// lse may be empty.
void attend_blocks(Context& ctx, const ConstTensorRef& q, std::span<const TensorRef> blocks, const HeadSizes& head,
                   Index first_position, double scale, const TensorRef& out, const TensorRef& lse) {
  HADAL_CHECK(q.rank() == 3 && q.size(2) == head.nope + head.rope && first_position >= 0 &&
                  out.shape() == Shape({q.size(0), q.size(1), head.v}),
              "attend_expanded: q {} at position {}, out {}, for heads of {}, {} and {}", q.shape().to_string(),
              first_position, out.shape().to_string(), head.nope, head.rope, head.v);
  HADAL_CHECK(!lse || lse.shape() == Shape({q.size(0), q.size(1)}), "attend_expanded: q {}, lse {}",
              q.shape().to_string(), lse.shape().to_string());
  const std::vector<kernels::KeyBlock> keys =
      key_blocks(ctx, "attend_expanded", blocks, head, q.size(1), first_position + q.size(0));
  ExpandedAttentionArgs args = expanded_args(ctx, q, keys, head, first_position, scale, out);
  if (lse) args.lse = lse.data_on<float>(ctx.device), args.lse_token_stride = lse.stride(0);
  if (q.num_elements() > 0) kernels::backend(ctx).attend_expanded(ctx, args, q.size(0), q.size(1));
}

AbsorbedAttentionArgs absorbed_args(const Context& ctx, const ConstTensorRef& q_latent, const ConstTensorRef& q_pe,
                                    double scale, const TensorRef& out) {
  AbsorbedAttentionArgs a;
  a.q_latent = q_latent.data_on<float>(ctx.device);
  a.q_latent_token_stride = q_latent.stride(0);
  a.q_latent_head_stride = q_latent.stride(1);
  a.q_pe = q_pe.data_on<float>(ctx.device);
  a.q_pe_token_stride = q_pe.stride(0);
  a.q_pe_head_stride = q_pe.stride(1);
  a.out = out.data_on<float>(ctx.device);
  a.out_token_stride = out.stride(0);
  a.out_head_stride = out.stride(1);
  a.latent = q_latent.size(2);
  a.rope = q_pe.size(2);
  a.scale = static_cast<float>(scale);
  return a;
}

Index pages_for(Index tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

void check_sequence(const CachedRows& s, Index tokens, Index width) {
  const Index keys = s.first_position + s.end - s.begin;
  HADAL_CHECK(0 <= s.begin && s.begin < s.end && s.end <= tokens && s.first_position >= 0,
              "attend_absorbed: rows {} to {} of {} at position {}", s.begin, s.end, tokens, s.first_position);
  HADAL_CHECK(static_cast<Index>(s.pages.size()) >= pages_for(keys),
              "attend_absorbed: {} entries need {} pages, not {}", keys, pages_for(keys), s.pages.size());
  for (Index i = 0; i < pages_for(keys); ++i) {
    const ConstTensorRef& page = s.pages[static_cast<std::size_t>(i)];
    const DType dtype = page.dtype();
    const bool stored = dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kU8;
    HADAL_CHECK(stored && dtype == s.pages[0].dtype() && page.rank() == 2 &&
                    page.size(1) == (dtype == DType::kU8 ? s.fp8.bytes() : width) &&
                    page.size(0) >= std::min(kPageTokens, keys - i * kPageTokens) &&
                    page.stride(0) == s.pages[0].stride(0),
                "attend_absorbed: page {} is {} {}, for entries of {} values", i, dtype_name(dtype),
                page.shape().to_string(), width);
  }
}

// `pages` are filled with those of all sequences; the result refers to them.
std::vector<CachedSequence> sequences_of(const Context& ctx, std::span<const CachedRows> sequences,
                                         std::vector<const void*>& pages) {
  for (const CachedRows& s : sequences)
    for (const ConstTensorRef& page : s.pages) pages.push_back(page.raw_on(ctx.device));
  std::vector<CachedSequence> out;
  std::size_t first = 0;
  for (const CachedRows& s : sequences) {
    const ConstTensorRef& page = s.pages[0];
    out.push_back({s.begin,
                   s.end,
                   s.first_position,
                   std::span(pages).subspan(first, s.pages.size()),
                   {nullptr, page.dtype(), page.stride(0) * static_cast<Index>(dtype_bytes(page.dtype())),
                    s.fp8.scales_at(), s.fp8.rope_at()}});
    first += s.pages.size();
  }
  return out;
}

}  // namespace

std::vector<ConstTensorRef> pages_of(const ConstTensorRef& entries) {
  std::vector<ConstTensorRef> pages;
  for (Index begin = 0; begin < entries.size(0); begin += kPageTokens)
    pages.push_back(entries.rows(begin, std::min(begin + kPageTokens, entries.size(0))));
  return pages;
}

Index key_block_floats(const HeadSizes& head, Index room) {
  return kernels::key_block_floats(head.nope, head.rope, head.v, room);
}

std::vector<TensorRef> new_key_blocks(Context& ctx, const HeadSizes& head, Index heads, Index positions) {
  std::vector<TensorRef> blocks;
  for (Index begin = 0; begin < positions; begin += kKeyBlock)
    blocks.push_back(
        ctx.workspace.floats({heads, key_block_floats(head, padded(std::min(kKeyBlock, positions - begin)))}));
  return blocks;
}

WorkspaceNeed new_key_blocks_need(const HeadSizes& head, Index heads, Index positions) {
  WorkspaceNeed need;
  for (Index begin = 0; begin < positions; begin += kKeyBlock)
    need.floats(heads * key_block_floats(head, padded(std::min(kKeyBlock, positions - begin))));
  return need;
}

WorkspaceNeed attend_expanded_need(const Context& ctx, const HeadSizes& head, Index tokens, Index first_position) {
  ExpandedAttentionArgs args;
  args.nope = head.nope;
  args.rope = head.rope;
  args.v = head.v;
  args.first_position = first_position;
  WorkspaceNeed need;
  need.within(kernels::backend(ctx).attend_expanded_need(ctx, args, tokens));
  return need;
}

void pack_keys(Context& ctx, const ConstTensorRef& kv, const ConstTensorRef& k_pe, const HeadSizes& head, Index begin,
               std::span<const TensorRef> blocks) {
  HADAL_CHECK(kv.rank() == 3 && kv.size(2) == head.nope + head.v && k_pe.shape() == Shape({kv.size(0), head.rope}) &&
                  begin >= 0 && begin % kKeyAlignment == 0,
              "pack_keys: kv {} and k_pe {} at position {}, for heads of {}, {} and {}", kv.shape().to_string(),
              k_pe.shape().to_string(), begin, head.nope, head.rope, head.v);
  kernels::NewKeysArgs a;
  a.kv = kv.data_on<float>(ctx.device);
  a.kv_token_stride = kv.stride(0);
  a.kv_head_stride = kv.stride(1);
  a.k_pe = k_pe.data_on<float>(ctx.device);
  a.k_pe_stride = k_pe.stride(0);
  a.nope = head.nope;
  a.rope = head.rope;
  a.v = head.v;
  a.begin = begin;
  a.end = begin + kv.size(0);
  const std::vector<kernels::KeyBlock> to = key_blocks(ctx, "pack_keys", blocks, head, kv.size(1), a.end);
  if (kv.num_elements() > 0) kernels::backend(ctx).pack_keys(ctx, a, kv.size(1), to);
}

void attend_expanded(Context& ctx, const ConstTensorRef& q, std::span<const TensorRef> blocks, const HeadSizes& head,
                     Index first_position, double scale, const TensorRef& out) {
  attend_blocks(ctx, q, blocks, head, first_position, scale, out, {});
}

void attend_expanded(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                     Index first_position, double scale, const TensorRef& out, const TensorRef& lse) {
  HADAL_CHECK(q.rank() == 3 && kv.rank() == 3 && k_pe.rank() == 2 && q.size(2) >= k_pe.size(1) &&
                  kv.size(0) == first_position + q.size(0) && kv.size(1) == q.size(1),
              "attend_expanded: q {}, kv {}, k_pe {} at position {}", q.shape().to_string(), kv.shape().to_string(),
              k_pe.shape().to_string(), first_position);
  const Workspace::Scope scope(ctx.workspace);
  const Index nope = q.size(2) - k_pe.size(1);
  const HeadSizes head{nope, k_pe.size(1), kv.size(2) - nope};
  const std::vector<TensorRef> blocks = new_key_blocks(ctx, head, kv.size(1), kv.size(0));
  pack_keys(ctx, kv, k_pe, head, 0, blocks);
  attend_blocks(ctx, q, blocks, head, first_position, scale, out, lse);
}

void attend_expanded(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                     Index first_position, double scale, const TensorRef& out) {
  attend_expanded(ctx, q, kv, k_pe, first_position, scale, out, {});
}

TensorRef attend_absorbed(Context& ctx, const ConstTensorRef& q_latent, const ConstTensorRef& q_pe,
                          std::span<const CachedRows> sequences, double scale) {
  HADAL_CHECK(
      q_latent.rank() == 3 && q_pe.rank() == 3 && q_pe.size(0) == q_latent.size(0) && q_pe.size(1) == q_latent.size(1),
      "attend_absorbed: q_latent {}, q_pe {}", q_latent.shape().to_string(), q_pe.shape().to_string());
  for (const CachedRows& s : sequences) check_sequence(s, q_latent.size(0), q_latent.size(2) + q_pe.size(2));
  const TensorRef out = ctx.workspace.floats(q_latent.shape());
  const AbsorbedAttentionArgs args = absorbed_args(ctx, q_latent, q_pe, scale, out);
  std::vector<const void*> pages;
  const std::vector<CachedSequence> cached = sequences_of(ctx, sequences, pages);
  kernels::backend(ctx).attend_absorbed(ctx, args, q_latent.size(1), cached);
  return out;
}

WorkspaceNeed attend_absorbed_need(const Context& ctx, Index rows, Index heads, Index latent, Index rope,
                                   std::span<const CachedRows> sequences) {
  AbsorbedAttentionArgs args;
  args.latent = latent;
  args.rope = rope;
  std::vector<CachedSequence> cached;
  for (const CachedRows& s : sequences)
    cached.push_back({.begin = s.begin, .end = s.end, .first_position = s.first_position});
  WorkspaceNeed need;
  need.floats(rows * heads * latent);
  need.within(kernels::backend(ctx).attend_absorbed_need(ctx, args, heads, cached));
  return need;
}

}  // namespace hadal::ops
