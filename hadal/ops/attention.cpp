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

ExpandedAttentionArgs expanded_args(const Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv,
                                    const ConstTensorRef& k_pe, Index first_position, double scale,
                                    const TensorRef& out) {
  ExpandedAttentionArgs a;
  a.q = q.data_on<float>(ctx.device);
  a.q_token_stride = q.stride(0);
  a.q_head_stride = q.stride(1);
  a.kv = kv.data_on<float>(ctx.device);
  a.kv_token_stride = kv.stride(0);
  a.kv_head_stride = kv.stride(1);
  a.k_pe = k_pe.data_on<float>(ctx.device);
  a.k_pe_stride = k_pe.stride(0);
  a.out = out.data_on<float>(ctx.device);
  a.out_token_stride = out.stride(0);
  a.out_head_stride = out.stride(1);
  a.rope = k_pe.size(1);
  a.nope = q.size(2) - a.rope;
  a.v = kv.size(2) - a.nope;
  a.first_position = first_position;
  a.scale = static_cast<float>(scale);
  return a;
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

void attend_expanded(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                     Index first_position, double scale, const TensorRef& out, const TensorRef& lse) {
  HADAL_CHECK(q.rank() == 3 && kv.rank() == 3 && k_pe.rank() == 2 && q.size(2) >= k_pe.size(1) && first_position >= 0 &&
                  kv.size(0) == first_position + q.size(0) && k_pe.size(0) == kv.size(0) && kv.size(1) == q.size(1) &&
                  out.shape() == Shape({q.size(0), q.size(1), kv.size(2) - q.size(2) + k_pe.size(1)}),
              "attend_expanded: q {}, kv {}, k_pe {} at position {}, out {}", q.shape().to_string(),
              kv.shape().to_string(), k_pe.shape().to_string(), first_position, out.shape().to_string());
  HADAL_CHECK(!lse || lse.shape() == Shape({q.size(0), q.size(1)}), "attend_expanded: q {}, lse {}",
              q.shape().to_string(), lse.shape().to_string());
  ExpandedAttentionArgs args = expanded_args(ctx, q, kv, k_pe, first_position, scale, out);
  if (lse) args.lse = lse.data_on<float>(ctx.device), args.lse_token_stride = lse.stride(0);
  if (q.num_elements() > 0) kernels::backend(ctx).attend_expanded(ctx, args, q.size(0), q.size(1));
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

}  // namespace hadal::ops
