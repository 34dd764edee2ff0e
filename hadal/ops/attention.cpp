#include "hadal/ops/attention.h"

#include "hadal/kernels/attention.h"
#include "hadal/ops/work.h"

namespace hadal::ops {
namespace {

// Runs one(token, head, scores) for all tokens and heads with scratch for the scores of the longest row. Tokens of one
// head are neighbours, so that its keys stay in cache.
template <class One>
void for_each_query(Context& ctx, Index tokens, Index heads, Index first_position, Index width, const One& one) {
  const Workspace::Scope scope(ctx.workspace);
  const Index longest = (first_position + tokens + 7) / 8 * 8;
  const TensorRef scores = ctx.workspace.floats({ctx.threads.num_threads(), longest});
  ctx.threads.parallel_for(tokens * heads, piece_size(ctx, tokens * heads, longest * width, 1),
                           [&](Index begin, Index end) {
                             float* scratch = scores.data<float>() + ThreadPool::current_thread() * longest;
                             for (Index i = begin; i < end; ++i) one(i % tokens, i / tokens, scratch);
                           });
}

}  // namespace

void attend_expanded(Context& ctx, const TensorRef& q, const TensorRef& kv, const TensorRef& k_pe, Index first_position,
                     double scale, const TensorRef& out) {
  const Index tokens = q.size(0), heads = q.size(1), rope = k_pe.size(1), nope = q.size(2) - rope,
              v = kv.size(2) - nope;
  HADAL_CHECK(kv.size(0) == first_position + tokens && k_pe.size(0) == kv.size(0) && kv.size(1) == heads &&
                  out.shape() == Shape({tokens, heads, v}),
              "attend_expanded: q {}, kv {}, k_pe {} at position {}", q.shape().to_string(), kv.shape().to_string(),
              k_pe.shape().to_string(), first_position);
  const kernels::ExpandedAttentionArgs args{.q = q.data<float>(),
                                            .q_token_stride = q.stride(0),
                                            .q_head_stride = q.stride(1),
                                            .kv = kv.data<float>(),
                                            .kv_token_stride = kv.stride(0),
                                            .kv_head_stride = kv.stride(1),
                                            .k_pe = k_pe.data<float>(),
                                            .k_pe_stride = k_pe.stride(0),
                                            .out = out.data<float>(),
                                            .out_token_stride = out.stride(0),
                                            .out_head_stride = out.stride(1),
                                            .nope = nope,
                                            .rope = rope,
                                            .v = v,
                                            .first_position = first_position,
                                            .scale = static_cast<float>(scale)};
  for_each_query(ctx, tokens, heads, first_position, nope + rope + v, [&](Index token, Index head, float* scores) {
    if (ctx.isa != Isa::kRef)
      kernels::avx2::attend_expanded(args, token, head, scores);
    else
      kernels::ref::attend_expanded(args, token, head, scores);
  });
}

TensorRef attend_absorbed(Context& ctx, const TensorRef& q_latent, const TensorRef& q_pe, const TensorRef& cache,
                          Index first_position, double scale) {
  const Index tokens = q_latent.size(0), heads = q_latent.size(1), latent = q_latent.size(2), rope = q_pe.size(2);
  HADAL_CHECK(cache.size(0) == first_position + tokens && cache.size(1) == latent + rope && q_pe.size(0) == tokens &&
                  q_pe.size(1) == heads,
              "attend_absorbed: q {} and {}, cache {} at position {}", q_latent.shape().to_string(),
              q_pe.shape().to_string(), cache.shape().to_string(), first_position);
  const TensorRef out = ctx.workspace.floats({tokens, heads, latent});
  const kernels::AbsorbedAttentionArgs args{.q_latent = q_latent.data<float>(),
                                            .q_latent_token_stride = q_latent.stride(0),
                                            .q_latent_head_stride = q_latent.stride(1),
                                            .q_pe = q_pe.data<float>(),
                                            .q_pe_token_stride = q_pe.stride(0),
                                            .q_pe_head_stride = q_pe.stride(1),
                                            .cache = cache.data<float>(),
                                            .cache_stride = cache.stride(0),
                                            .out = out.data<float>(),
                                            .out_token_stride = out.stride(0),
                                            .out_head_stride = out.stride(1),
                                            .latent = latent,
                                            .rope = rope,
                                            .first_position = first_position,
                                            .scale = static_cast<float>(scale)};
  for_each_query(ctx, tokens, heads, first_position, 2 * latent + rope, [&](Index token, Index head, float* scores) {
    if (ctx.isa != Isa::kRef)
      kernels::avx2::attend_absorbed(args, token, head, scores);
    else
      kernels::ref::attend_absorbed(args, token, head, scores);
  });
  return out;
}

}  // namespace hadal::ops
