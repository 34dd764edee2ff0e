// Attention of one (token, head), AVX2. Scores: lanes along the head dimension, four keys at a time for independent
// sums; values: lanes along the output, keys in the order of their positions. Bound by reading keys and values from the
// caches.
#include "hadal/kernels/attention.h"

#include "hadal/kernels/cpu/avx2/vec.h"

namespace hadal::kernels::avx2 {
namespace {

struct Rows {
  const float* base;
  Index stride;
  HADAL_INLINE const float* at(Index i) const { return base + i * stride; }
};

template <int kKeys>
HADAL_INLINE void add_products(const float* q, const Rows& keys, Index j, Index n, Vec (&acc)[kKeys]) {
  Index c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    const Vec x = _mm256_loadu_ps(q + c);
    for (int k = 0; k < kKeys; ++k) acc[k] = _mm256_fmadd_ps(x, _mm256_loadu_ps(keys.at(j + k) + c), acc[k]);
  }
  if (c == n) return;
  const Vec x = load_tail(q + c, n - c);
  for (int k = 0; k < kKeys; ++k) acc[k] = _mm256_fmadd_ps(x, load_tail(keys.at(j + k) + c, n - c), acc[k]);
}

// scores[j .. j + kKeys) = scale * (a . a_keys[j] + b . b_keys[j])
struct Query {
  const float* a;
  Rows a_keys;
  Index a_size;
  const float* b;
  Rows b_keys;
  Index b_size;
  float scale;

  template <int kKeys>
  HADAL_INLINE void score(Index j, float* scores) const {
    Vec acc[kKeys];
    for (Vec& v : acc) v = _mm256_setzero_ps();
    add_products(a, a_keys, j, a_size, acc);
    add_products(b, b_keys, j, b_size, acc);
    for (int k = 0; k < kKeys; ++k) scores[j + k] = sum_lanes(acc[k]) * scale;
  }
  HADAL_INLINE void score_all(Index n, float* scores) const {
    Index j = 0;
    for (; j + 4 <= n; j += 4) score<4>(j, scores);
    for (; j < n; ++j) score<1>(j, scores);
  }
};

// scores -> exp(score - largest); returns their sum. The order of the sum is fixed by the position of each key.
HADAL_INLINE float exponentials(float* scores, Index n) {
  float largest = scores[0];
  for (Index j = 1; j < n; ++j) largest = scores[j] > largest ? scores[j] : largest;
  const Vec shift = _mm256_set1_ps(largest);
  Vec sum = _mm256_setzero_ps();
  for (Index j = 0; j < n; j += kLanes) {
    const Index count = n - j < kLanes ? n - j : kLanes;
    const __m256i mask = tail_mask(count);
    const Vec e = exp(_mm256_sub_ps(_mm256_maskload_ps(scores + j, mask), shift));
    const Vec kept = _mm256_and_ps(e, _mm256_castsi256_ps(mask));
    _mm256_maskstore_ps(scores + j, mask, kept);
    sum = _mm256_add_ps(sum, kept);
  }
  return sum_lanes(sum);
}

template <int kVecs>
HADAL_INLINE void weighted_columns(const float* p, Index n, const Rows& values, Index c, Vec factor, float* out) {
  Vec acc[kVecs];
  for (Vec& v : acc) v = _mm256_setzero_ps();
  for (Index j = 0; j < n; ++j) {
    const Vec weight = _mm256_broadcast_ss(p + j);
    const float* row = values.at(j) + c;
    for (int v = 0; v < kVecs; ++v) acc[v] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(row + v * kLanes), acc[v]);
  }
  for (int v = 0; v < kVecs; ++v) _mm256_storeu_ps(out + c + v * kLanes, _mm256_mul_ps(acc[v], factor));
}

HADAL_INLINE void weighted_sum(const float* p, Index n, float sum, const Rows& values, Index width, float* out) {
  const Vec factor = _mm256_set1_ps(1.0f / sum);
  Index c = 0;
  for (; c + 8 * kLanes <= width; c += 8 * kLanes) weighted_columns<8>(p, n, values, c, factor, out);
  for (; c + kLanes <= width; c += kLanes) weighted_columns<1>(p, n, values, c, factor, out);
  if (c == width) return;
  Vec acc = _mm256_setzero_ps();
  for (Index j = 0; j < n; ++j)
    acc = _mm256_fmadd_ps(_mm256_broadcast_ss(p + j), load_tail(values.at(j) + c, width - c), acc);
  store_tail(out + c, width - c, _mm256_mul_ps(acc, factor));
}

}  // namespace

void attend_expanded(const ExpandedAttentionArgs& a, Index token, Index head, float* scores) {
  const Index n = a.first_position + token + 1;
  const float* q = a.q + token * a.q_token_stride + head * a.q_head_stride;
  const float* kv = a.kv + head * a.kv_head_stride;
  const Query query{q, {kv, a.kv_token_stride}, a.nope, q + a.nope, {a.k_pe, a.k_pe_stride}, a.rope, a.scale};
  query.score_all(n, scores);
  const float sum = exponentials(scores, n);
  weighted_sum(scores, n, sum, {kv + a.nope, a.kv_token_stride}, a.v,
               a.out + token * a.out_token_stride + head * a.out_head_stride);
}

void attend_absorbed(const AbsorbedAttentionArgs& a, Index token, Index head, float* scores) {
  const Index n = a.first_position + token + 1;
  const float* q = a.q_latent + token * a.q_latent_token_stride + head * a.q_latent_head_stride;
  const float* q_pe = a.q_pe + token * a.q_pe_token_stride + head * a.q_pe_head_stride;
  const Query query{q,      {a.cache, a.cache_stride}, a.latent, q_pe, {a.cache + a.latent, a.cache_stride}, a.rope,
                    a.scale};
  query.score_all(n, scores);
  const float sum = exponentials(scores, n);
  weighted_sum(scores, n, sum, {a.cache, a.cache_stride}, a.latent,
               a.out + token * a.out_token_stride + head * a.out_head_stride);
}

}  // namespace hadal::kernels::avx2
