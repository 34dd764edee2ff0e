#include "hadal/ops/attention.h"

#include <algorithm>
#include <vector>

#include "hadal/kernels/attention.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/work.h"

namespace hadal::ops {
namespace {

using kernels::AbsorbedAttentionArgs;
using kernels::AttentionKernels;
using kernels::ExpandedAttentionArgs;

constexpr Index kKeysPerPiece = 64;
constexpr Index kQueriesPerPiece = 48;

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

ExpandedAttentionArgs expanded_args(const TensorRef& q, const TensorRef& kv, const TensorRef& k_pe,
                                    Index first_position, double scale, const TensorRef& out) {
  ExpandedAttentionArgs a;
  a.q = q.data<float>();
  a.q_token_stride = q.stride(0);
  a.q_head_stride = q.stride(1);
  a.kv = kv.data<float>();
  a.kv_token_stride = kv.stride(0);
  a.kv_head_stride = kv.stride(1);
  a.k_pe = k_pe.data<float>();
  a.k_pe_stride = k_pe.stride(0);
  a.out = out.data<float>();
  a.out_token_stride = out.stride(0);
  a.out_head_stride = out.stride(1);
  a.rope = k_pe.size(1);
  a.nope = q.size(2) - a.rope;
  a.v = kv.size(2) - a.nope;
  a.first_position = first_position;
  a.scale = static_cast<float>(scale);
  return a;
}

void fast_expanded(Context& ctx, const ExpandedAttentionArgs& a, Index tokens, Index heads) {
  const AttentionKernels& k = kernels::attention_kernels(ctx.isa);
  const Index keys = a.first_position + tokens;
  const Workspace::Scope scope(ctx.workspace);
  const kernels::PackedHeads packed{ctx.workspace.floats({k.packed_keys_floats(a, heads, keys)}).data<float>(),
                                    ctx.workspace.floats({k.packed_values_floats(a, heads, keys)}).data<float>()};
  const Index key_pieces = (keys + kKeysPerPiece - 1) / kKeysPerPiece;
  ctx.threads.parallel_for(heads * key_pieces, 1, [&](Index i, Index) {
    const Index begin = i % key_pieces * kKeysPerPiece;
    k.pack(a, i / key_pieces, keys, begin, std::min(begin + kKeysPerPiece, keys), packed);
  });
  const Index scratch_floats = (k.expanded_scratch_floats(a) + 15) / 16 * 16;
  const TensorRef scratch = ctx.workspace.floats({ctx.threads.num_threads(), scratch_floats});
  const Index query_pieces = (tokens + kQueriesPerPiece - 1) / kQueriesPerPiece;
  ctx.threads.parallel_for(heads * query_pieces, 1, [&](Index i, Index) {
    // Late queries see most keys: they go first, so that the threads end together.
    const Index piece = query_pieces - 1 - i / heads, begin = piece * kQueriesPerPiece;
    k.expanded(a, packed, i % heads, keys, begin, std::min(begin + kQueriesPerPiece, tokens),
               scratch.data<float>() + ThreadPool::current_thread() * scratch_floats);
  });
}

AbsorbedAttentionArgs absorbed_args(const TensorRef& q_latent, const TensorRef& q_pe, double scale,
                                    const TensorRef& out) {
  AbsorbedAttentionArgs a;
  a.q_latent = q_latent.data<float>();
  a.q_latent_token_stride = q_latent.stride(0);
  a.q_latent_head_stride = q_latent.stride(1);
  a.q_pe = q_pe.data<float>();
  a.q_pe_token_stride = q_pe.stride(0);
  a.q_pe_head_stride = q_pe.stride(1);
  a.out = out.data<float>();
  a.out_token_stride = out.stride(0);
  a.out_head_stride = out.stride(1);
  a.latent = q_latent.size(2);
  a.rope = q_pe.size(2);
  a.scale = static_cast<float>(scale);
  return a;
}

// One token: its blocks of keys, and where their partial results lie.
struct Query {
  const CachedRows* sequence;
  Index token;
  Index keys;
  Index first_block;  // among all queries' blocks
  Index blocks() const { return (keys + kernels::kAbsorbedBlock - 1) / kernels::kAbsorbedBlock; }
};

void fast_absorbed(Context& ctx, const AbsorbedAttentionArgs& a, Index heads, std::span<const CachedRows> sequences) {
  constexpr Index kBlock = kernels::kAbsorbedBlock;
  const AttentionKernels& k = kernels::attention_kernels(ctx.isa);
  std::vector<Query> queries;
  std::vector<Index> query_of;  // block -> query
  for (const CachedRows& s : sequences)
    for (Index t = s.begin; t < s.end; ++t) {
      queries.push_back({&s, t, s.first_position + t - s.begin + 1, static_cast<Index>(query_of.size())});
      query_of.insert(query_of.end(), static_cast<std::size_t>(queries.back().blocks()),
                      static_cast<Index>(queries.size()) - 1);
    }
  const Workspace::Scope scope(ctx.workspace);
  const auto blocks = static_cast<Index>(query_of.size()), tokens = static_cast<Index>(queries.size());
  const Index width = a.latent + a.rope, query_floats = k.packed_query_floats(a, heads);
  const TensorRef q = ctx.workspace.floats({tokens, query_floats});
  ctx.threads.parallel_for(tokens, tokens, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      k.pack_query(a, queries[static_cast<std::size_t>(i)].token, heads, q.data<float>() + i * query_floats);
  });
  const TensorRef parts = ctx.workspace.floats({blocks, heads, a.latent}),
                  largest = ctx.workspace.floats({blocks, heads}), sums = ctx.workspace.floats({blocks, heads});
  const Index scratch_floats = kBlock * width + k.absorbed_scratch_floats(heads);
  const TensorRef scratch = ctx.workspace.floats({ctx.threads.num_threads(), scratch_floats});
  ctx.threads.parallel_for(blocks, 1, [&](Index b, Index) {
    float* entries = scratch.data<float>() + ThreadPool::current_thread() * scratch_floats;
    const Index i = query_of[static_cast<std::size_t>(b)];
    const Query& query = queries[static_cast<std::size_t>(i)];
    const Index begin = (b - query.first_block) * kBlock, end = std::min(begin + kBlock, query.keys);
    kernels::AbsorbedBlockArgs args;
    args.q = q.data<float>() + i * query_floats;
    args.entries = entries;
    args.entry_stride = width;
    args.keys = end - begin;
    args.heads = heads;
    args.latent = a.latent;
    args.rope = a.rope;
    args.largest = largest.view<float, 2>().row(b);
    args.sum = sums.view<float, 2>().row(b);
    args.out = parts.view<float, 3>().row(b);
    const TensorRef& stored = query.sequence->stored;
    const Index row_bytes = stored.stride(0) * static_cast<Index>(dtype_bytes(stored.dtype()));
    args.ahead = static_cast<const std::byte*>(stored.raw()) + end * row_bytes;
    args.ahead_bytes = (std::min(end + kBlock, query.keys) - end) * row_bytes;
    if (stored.dtype() == DType::kF32) {
      args.entry_stride = stored.stride(0);
      args.entries = stored.data<float>() + begin * args.entry_stride;
    } else {
      args.stored = {static_cast<const std::byte*>(stored.raw()) + begin * row_bytes, stored.dtype(), row_bytes,
                     query.sequence->fp8.scales_at(), query.sequence->fp8.rope_at()};
      args.unpacked = entries;
    }
    k.absorbed_block(args, entries + kBlock * width);
  });
  ctx.threads.parallel_for(tokens * heads, piece_size(ctx, tokens * heads, a.latent * blocks / tokens, 1),
                           [&](Index begin, Index end) {
                             for (Index i = begin; i < end; ++i) {
                               const Query& query = queries[static_cast<std::size_t>(i / heads)];
                               const Index head = i % heads, b = query.first_block;
                               k.merge(&largest.view<float, 2>()(b, head), &sums.view<float, 2>()(b, head), heads,
                                       &parts.view<float, 3>()(b, head, 0), heads * a.latent, query.blocks(), a.latent,
                                       a.out + query.token * a.out_token_stride + head * a.out_head_stride);
                             }
                           });
}

void plain_absorbed(Context& ctx, AbsorbedAttentionArgs a, Index heads, std::span<const CachedRows> sequences) {
  for (const CachedRows& s : sequences) {
    const Workspace::Scope scope(ctx.workspace);
    TensorRef entries = s.stored;
    if (s.stored.dtype() != DType::kF32) {
      entries = ctx.workspace.floats({s.stored.size(0), a.latent + a.rope});
      if (s.stored.dtype() == DType::kU8)
        unpack_entries(ctx, s.fp8, s.stored, entries);
      else
        to_float(ctx, s.stored, entries);
    }
    AbsorbedAttentionArgs part = a;
    part.q_latent += s.begin * a.q_latent_token_stride;
    part.q_pe += s.begin * a.q_pe_token_stride;
    part.out += s.begin * a.out_token_stride;
    part.cache = entries.data<float>();
    part.cache_stride = entries.stride(0);
    part.first_position = s.first_position;
    for_each_query(
        ctx, s.end - s.begin, heads, s.first_position + s.end - s.begin, 2 * a.latent + a.rope,
        [&](Index token, Index head, float* scores) { kernels::ref::attend_absorbed(part, token, head, scores); });
  }
}

}  // namespace

void attend_expanded(Context& ctx, const TensorRef& q, const TensorRef& kv, const TensorRef& k_pe, Index first_position,
                     double scale, const TensorRef& out) {
  const Index tokens = q.size(0), heads = q.size(1), rope = k_pe.size(1), nope = q.size(2) - rope;
  HADAL_CHECK(kv.size(0) == first_position + tokens && k_pe.size(0) == kv.size(0) && kv.size(1) == heads &&
                  out.shape() == Shape({tokens, heads, kv.size(2) - nope}),
              "attend_expanded: q {}, kv {}, k_pe {} at position {}", q.shape().to_string(), kv.shape().to_string(),
              k_pe.shape().to_string(), first_position);
  const ExpandedAttentionArgs args = expanded_args(q, kv, k_pe, first_position, scale, out);
  if (ctx.isa != Isa::kRef) return fast_expanded(ctx, args, tokens, heads);
  for_each_query(
      ctx, tokens, heads, first_position + tokens, nope + rope + args.v,
      [&](Index token, Index head, float* scores) { kernels::ref::attend_expanded(args, token, head, scores); });
}

TensorRef attend_absorbed(Context& ctx, const TensorRef& q_latent, const TensorRef& q_pe,
                          std::span<const CachedRows> sequences, double scale) {
  const Index tokens = q_latent.size(0), heads = q_latent.size(1);
  for (const CachedRows& s : sequences)
    HADAL_CHECK(s.begin < s.end && s.end <= tokens && s.stored.size(0) >= s.first_position + s.end - s.begin,
                "attend_absorbed: rows {} to {} of {} at position {}, {} entries", s.begin, s.end, tokens,
                s.first_position, s.stored.size(0));
  const TensorRef out = ctx.workspace.floats(q_latent.shape());
  const AbsorbedAttentionArgs args = absorbed_args(q_latent, q_pe, scale, out);
  if (ctx.isa == Isa::kRef)
    plain_absorbed(ctx, args, heads, sequences);
  else
    fast_absorbed(ctx, args, heads, sequences);
  return out;
}

}  // namespace hadal::ops
