// Causal attention of one sequence over its latent cache, in the two forms of MLA. Every query sums over its keys in
// the order of their positions, all of them in one pass, so results do not depend on how a prompt was cut into chunks.
#pragma once

#include "hadal/core/tensor.h"

namespace hadal::kernels {

// Expanded form (prompts): keys and values per head. Query t sits at position first_position + t and sees keys
// [0, first_position + t].
struct ExpandedAttentionArgs {
  const float* q = nullptr;  // [T, heads, nope + rope]: strides below
  Index q_token_stride = 0, q_head_stride = 0;
  const float* kv = nullptr;  // [L, heads, nope + v]: k_nope and v side by side, as kv_b_proj gives them
  Index kv_token_stride = 0, kv_head_stride = 0;
  const float* k_pe = nullptr;  // [L, rope], shared by the heads
  Index k_pe_stride = 0;
  float* out = nullptr;  // [T, heads, v]
  Index out_token_stride = 0, out_head_stride = 0;
  Index nope = 0, rope = 0, v = 0;
  Index first_position = 0;
  float scale = 1;
};

// Absorbed form (decoding): all heads share one latent key, which is also the value.
struct AbsorbedAttentionArgs {
  const float* q_latent = nullptr;  // [T, heads, latent]: q_nope W^UK
  Index q_latent_token_stride = 0, q_latent_head_stride = 0;
  const float* q_pe = nullptr;  // [T, heads, rope]
  Index q_pe_token_stride = 0, q_pe_head_stride = 0;
  const float* cache = nullptr;  // [L, latent + rope]
  Index cache_stride = 0;
  float* out = nullptr;  // [T, heads, latent]
  Index out_token_stride = 0, out_head_stride = 0;
  Index latent = 0, rope = 0;
  Index first_position = 0;
  float scale = 1;
};

// One (token, head) each; `scores` is scratch of first_position + token + 1 floats, rounded up to 8.
namespace ref {
void attend_expanded(const ExpandedAttentionArgs& args, Index token, Index head, float* scores);
void attend_absorbed(const AbsorbedAttentionArgs& args, Index token, Index head, float* scores);
}  // namespace ref

namespace avx2 {
void attend_expanded(const ExpandedAttentionArgs& args, Index token, Index head, float* scores);
void attend_absorbed(const AbsorbedAttentionArgs& args, Index token, Index head, float* scores);
}  // namespace avx2

}  // namespace hadal::kernels
