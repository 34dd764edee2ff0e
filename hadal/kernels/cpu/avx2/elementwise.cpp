// Row-wise kernels, AVX2. All of them are bound by memory or caches.
#include "hadal/kernels/elementwise.h"

#include "hadal/kernels/cpu/avx2/vec.h"

namespace hadal::kernels::avx2 {
namespace {

HADAL_INLINE __m256d square(__m128 x, __m256d sum) {
  const __m256d wide = _mm256_cvtps_pd(x);
  return _mm256_fmadd_pd(wide, wide, sum);
}

HADAL_INLINE Vec silu_times(Vec gate, Vec up) {
  const Vec negated = _mm256_xor_ps(gate, _mm256_set1_ps(-0.0f));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0f), exp(negated))), up);
}

template <class T>
void convert(const T* x, float* y, Index n, float unit) {
  const Vec factor = _mm256_set1_ps(unit);
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) _mm256_storeu_ps(y + i, _mm256_mul_ps(load(x + i), factor));
  if (i < n) store_tail(y + i, n - i, _mm256_mul_ps(load_weight_tail(x + i, n - i), factor));
}

}  // namespace

float rms_norm(const float* x, const float* weight, float* y, Index n, float eps) {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  for (Index i = 0; i < n; i += kLanes) {
    const Vec v = i + kLanes <= n ? _mm256_loadu_ps(x + i) : load_tail(x + i, n - i);
    low = square(_mm256_castps256_ps128(v), low);
    high = square(_mm256_extractf128_ps(v, 1), high);
  }
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  const double squares = _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  const auto inverse =
      static_cast<float>(1.0 / __builtin_sqrt(squares / static_cast<double>(n) + static_cast<double>(eps)));
  const Vec r = _mm256_set1_ps(inverse);
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes)
    _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), r), _mm256_loadu_ps(weight + i)));
  if (i < n)
    store_tail(y + i, n - i, _mm256_mul_ps(_mm256_mul_ps(load_tail(x + i, n - i), r), load_tail(weight + i, n - i)));
  return inverse;
}

void swiglu(const float* gate, const float* up, float* y, Index n) {
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes)
    _mm256_storeu_ps(y + i, silu_times(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
  if (i < n) store_tail(y + i, n - i, silu_times(load_tail(gate + i, n - i), load_tail(up + i, n - i)));
}

void axpy(float a, const float* x, float* y, Index n) {
  const Vec factor = _mm256_set1_ps(a);
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes)
    _mm256_storeu_ps(y + i, _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
  if (i < n) store_tail(y + i, n - i, _mm256_fmadd_ps(factor, load_tail(x + i, n - i), load_tail(y + i, n - i)));
}

void to_float(const void* x, DType dtype, float* y, Index n) {
  switch (dtype) {
    case DType::kF32:
      return convert(static_cast<const float*>(x), y, n, 1.0f);
    case DType::kBF16:
      return convert(static_cast<const bf16*>(x), y, n, 1.0f);
    case DType::kF16:
      return convert(static_cast<const f16*>(x), y, n, 1.0f);
    default:
      return convert(static_cast<const e4m3*>(x), y, n, kE4m3Unit);
  }
}

}  // namespace hadal::kernels::avx2
