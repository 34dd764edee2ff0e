#include "hadal/kernels/cpu/training_rows.h"

#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/part_rows.h"

namespace hadal::kernels::avx2 {
namespace {

HADAL_INLINE float sum_of(Vec v) {
  v = add(v, lanes_from<4>(v));
  v = add(v, lanes_from<2>(v));
  v = add(v, lanes_from<1>(v));
  return first_lane(v);
}
HADAL_INLINE Vec sigmoid(Vec x) {
  return _mm256_div_ps(broadcast(1), add(broadcast(1), exp(sub(zero(), x))));
}

}  // namespace

void rms_norm_backward(const float* dy, const float* x, const float* weight, float r, float* dx, Index n) {
  Vec sum = zero();
  for (Index i = 0; i < n; i += kLanes)
    sum = fma(mul(take(weight + i, n - i), take(dy + i, n - i)), take(x + i, n - i), sum);
  const Vec along = broadcast(-sum_of(sum) * r * r * r / static_cast<float>(n)), factor = broadcast(r);
  for (Index i = 0; i < n; i += kLanes) {
    const Vec direct = mul(mul(take(weight + i, n - i), take(dy + i, n - i)), factor);
    put(dx + i, fma(take(x + i, n - i), along, direct), n - i);
  }
}

void add_rms_norm_weight(const float* dy, Index dy_stride, const float* x, Index x_stride, const float* inverse_rms,
                         Index rows, float* d_weight, Index n) {
  for (Index i = 0; i < n; i += kLanes) {
    Vec sum = zero();
    for (Index t = 0; t < rows; ++t)
      sum = fma(mul(take(dy + t * dy_stride + i, n - i), broadcast(inverse_rms[t])), take(x + t * x_stride + i, n - i),
                sum);
    put(d_weight + i, add(take(d_weight + i, n - i), sum), n - i);
  }
}

float swiglu_backward(const float* gate, const float* up, const float* d_inner, float weight, float* d_gate,
                      float* d_up, float* weighted_inner, Index n) {
  const Vec w = broadcast(weight);
  Vec along = zero();
  for (Index i = 0; i < n; i += kLanes) {
    const Vec g = take(gate + i, n - i), u = take(up + i, n - i), d = take(d_inner + i, n - i), s = sigmoid(g);
    const Vec silu = mul(g, s), inner = mul(silu, u), wd = mul(w, d);
    along = fma(inner, d, along);
    put(weighted_inner + i, mul(w, inner), n - i);
    put(d_up + i, mul(wd, silu), n - i);
    // s (1 + g (1 - s)) = s + silu - silu s
    put(d_gate + i, mul(mul(wd, u), sub(add(s, silu), mul(silu, s))), n - i);
  }
  return sum_of(along);
}

float largest(const float* x, Index n) {
  Vec most = broadcast(x[0]);
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) most = max(load(x + i), most);
  alignas(32) float lanes[kLanes];
  store(lanes, most);
  float found = lanes[0];
  for (const float lane : lanes) found = lane > found ? lane : found;
  for (; i < n; ++i) found = x[i] > found ? x[i] : found;
  return found;
}

double cross_entropy(float* row, Index n, Index target, float factor) {
  const float most = largest(row, n);
  const float of_target = row[target];
  const Vec shift = broadcast(most);
  Vec low = zero();
  for (Index i = 0; i < n; i += kLanes) {
    const Vec e = exp(sub(take(row + i, n - i), shift));
    put(row + i, e, n - i);
    if (n - i >= kLanes)
      low = add(low, e);
    else
      for (Index j = i; j < n; ++j) low = add(low, load_first(row + j, 1));
  }
  const float sum = sum_of(low), share = factor / sum;
  scale(share, row, n);
  row[target] -= factor;
  return double{most} + __builtin_log(double{sum}) - double{of_target};
}

void add(const float* x, float* y, Index n) {
  for (Index i = 0; i < n; i += kLanes) put(y + i, add(take(y + i, n - i), take(x + i, n - i)), n - i);
}

void scale(float factor, float* y, Index n) {
  const Vec f = broadcast(factor);
  for (Index i = 0; i < n; i += kLanes) put(y + i, mul(take(y + i, n - i), f), n - i);
}

void softmax_backward(float* scores, float* dp, Index n, Index visible, float factor, float lse, float along) {
  const Vec f = broadcast(factor), shift = broadcast(lse), a = broadcast(along);
  Index i = 0;
  for (; i < visible; i += kLanes) {
    const Vec p = exp(sub(mul(take(scores + i, n - i), f), shift));
    const Vec ds = mul(mul(p, sub(take(dp + i, n - i), a)), f);
    put(scores + i, p, n - i);
    put(dp + i, ds, n - i);
  }
  for (Index j = visible; j < n; ++j) scores[j] = dp[j] = 0;
}

float sigmoid(const float* logits, float* s, Index n) {
  Vec sum = zero();
  for (Index i = 0; i < n; i += kLanes) {
    const Vec x = sigmoid(take(logits + i, n - i));
    put(s + i, x, n - i);
    sum = add(sum, n - i >= kLanes ? x : load_first(s + i, n - i));
  }
  return sum_of(sum);
}

void largest(const float* values, float* left, Index n, Index k, std::int32_t* which) {
  for (Index i = 0; i < n; i += kLanes) put(left + i, take(values + i, n - i), n - i);
  for (Index taken = 0; taken < k; ++taken) {
    Vec most = broadcast(-__builtin_inff());
    Index i = 0;
    for (; i + kLanes <= n; i += kLanes) most = max(load(left + i), most);
    alignas(32) float lanes[kLanes];
    store(lanes, most);
    float best = lanes[0];
    for (const float lane : lanes) best = lane > best ? lane : best;
    for (; i < n; ++i) best = left[i] > best ? left[i] : best;
    Index at = 0;
    for (; at + kLanes <= n; at += kLanes)
      if (_mm256_movemask_ps(_mm256_cmp_ps(load(left + at), broadcast(best), _CMP_EQ_OQ)) != 0) break;
    while (left[at] != best) ++at;
    which[taken] = static_cast<std::int32_t>(at);
    left[at] = -__builtin_inff();
  }
}

void gate_backward(const float* s, const float* ds, const float* load_of, float balance, float share, float* d_logits,
                   Index n) {
  const Vec b = broadcast(balance), mean = broadcast(share), one = broadcast(1);
  for (Index i = 0; i < n; i += kLanes) {
    const Vec x = take(s + i, n - i);
    const Vec d = fma(b, sub(take(load_of + i, n - i), mean), take(ds + i, n - i));
    put(d_logits + i, mul(d, mul(x, sub(one, x))), n - i);
  }
}

float dot(const float* a, const float* b, Index n) {
  Vec sum = zero();
  for (Index i = 0; i < n; i += kLanes) sum = fma(take(a + i, n - i), take(b + i, n - i), sum);
  return sum_of(sum);
}

}  // namespace hadal::kernels::avx2
