#include "hadal/kernels/cpu/optimizer_rows.h"

#define HADAL_ISA avx2
#include "hadal/kernels/cpu/avx2/part_rows.h"

namespace hadal::kernels::avx2 {
namespace {

// f(i, how many elements) for whole vectors, then for a last one that lacks elements.
template <class F>
HADAL_INLINE void vectors(Index n, const F& f) {
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, n - i);
}

HADAL_INLINE Vec take(const bf16* p, Index count) {
  return count >= kLanes ? load(p) : load_weight_tail(p, count);
}
// Rounded to the nearest, ties to even, like float_to_bf16.
HADAL_INLINE void put(bf16* p, Vec v, Index count) {
  const IVec bits = as_int(v);
  const IVec even = bit_and(right<16>(bits), all_dwords(1));
  IVec high = right<16>(add_dwords(add_dwords(bits, all_dwords(0x7FFF)), even));
  const IVec nan = as_int(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  high = _mm256_blendv_epi8(high, bit_or(right<16>(bits), all_dwords(0x40)), nan);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  if (count >= kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words);
    return;
  }
  bf16 all[kLanes];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(all), words);
  for (Index i = 0; i < count; ++i) p[i] = all[i];
}

HADAL_INLINE Vec all(double x) {
  return broadcast(static_cast<float>(x));
}

template <class Moment>
HADAL_INLINE void adamw_of(const AdamWFactors& f, const float* grad, Moment* first, Moment* second, float* value,
                           Index n, double decay) {
  const Vec b1 = all(f.beta1), n1 = all(1 - f.beta1), b2 = all(f.beta2), n2 = all(1 - f.beta2), eps = all(f.eps),
            keep = all(decay), correction = all(-f.correction), root = all(f.root), factor = all(f.gradient);
  vectors(n, [&](Index i, Index count) __attribute__((always_inline)) {
    const Vec g = mul(take(grad + i, count), factor);
    const Vec m = fma(b1, take(first + i, count), mul(n1, g)), v = fma(b2, take(second + i, count), mul(mul(n2, g), g));
    put(first + i, m, count);
    put(second + i, v, count);
    const Vec step = _mm256_div_ps(m, fma(_mm256_sqrt_ps(v), root, eps));
    put(value + i, fma(step, correction, mul(take(value + i, count), keep)), count);
  });
}

template <class Moment>
HADAL_INLINE void momentum_of(const MomentumFactors& f, const float* grad, Moment* momentum, float* update, Index n) {
  const Vec mu = all(f.mu), factor = all((1 - f.mu) * f.gradient);
  const bool nesterov = f.nesterov;
  vectors(n, [&](Index i, Index count) __attribute__((always_inline)) {
    const Vec g = mul(take(grad + i, count), factor), m = fma(mu, take(momentum + i, count), g);
    put(momentum + i, m, count);
    put(update + i, nesterov ? fma(mu, m, g) : m, count);
  });
}

}  // namespace

double squares(const float* x, Index n) {
  __m256d low = _mm256_setzero_pd(), high = low;
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x + i)), b = _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4));
    low = _mm256_fmadd_pd(a, a, low);
    high = _mm256_fmadd_pd(b, b, high);
  }
  alignas(32) double lanes[kLanes];
  _mm256_store_pd(lanes, low);
  _mm256_store_pd(lanes + 4, high);
  for (; i < n; ++i) lanes[0] += double{x[i]} * double{x[i]};
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

void adamw(const AdamWFactors& f, const float* grad, float* first, float* second, float* value, Index n, double decay) {
  adamw_of(f, grad, first, second, value, n, decay);
}
void adamw(const AdamWFactors& f, const float* grad, bf16* first, bf16* second, float* value, Index n, double decay) {
  adamw_of(f, grad, first, second, value, n, decay);
}
void momentum(const MomentumFactors& f, const float* grad, float* momentum, float* update, Index n) {
  momentum_of(f, grad, momentum, update, n);
}
void momentum(const MomentumFactors& f, const float* grad, bf16* momentum, float* update, Index n) {
  momentum_of(f, grad, momentum, update, n);
}

void blend(const float* x, float of_x, float* y, float of_y, Index n) {
  const Vec a = broadcast(of_x), b = broadcast(of_y);
  vectors(n, [&](Index i, Index count) __attribute__((always_inline)) {
    put(y + i, fma(take(x + i, count), a, mul(take(y + i, count), b)), count);
  });
}

void scaled(const float* x, float of_x, float* y, Index n) {
  const Vec a = broadcast(of_x);
  vectors(n,
          [&](Index i, Index count) __attribute__((always_inline)) { put(y + i, mul(take(x + i, count), a), count); });
}

}  // namespace hadal::kernels::avx2
