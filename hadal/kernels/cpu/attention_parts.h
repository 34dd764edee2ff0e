// What both forms of attention are made of, written once for every instruction set; included like linear_impl.h. Scores
// and weighted sums are products of packed tiles, bound by multiply-adds; the softmax between them runs on sixteen
// lanes whatever the width of a vector, so that its sums have one order.
#pragma once

#include "hadal/kernels/attention.h"
#include "hadal/kernels/cpu/tiles.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr int kWideVecs = 16 / kLanes;

// Sixteen floats.
struct Wide {
  Vec v[kWideVecs];
};
HADAL_INLINE Wide wide_load(const float* p) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = load(p + i * kLanes);
  return w;
}
HADAL_INLINE void wide_store(float* p, const Wide& w) {
  for (int i = 0; i < kWideVecs; ++i) store(p + i * kLanes, w.v[i]);
}
HADAL_INLINE Wide wide_broadcast(float x) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = broadcast(x);
  return w;
}
template <class Op>
HADAL_INLINE Wide wide_map(const Wide& a, const Wide& b, Op op) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = op(a.v[i], b.v[i]);
  return w;
}
HADAL_INLINE Wide wide_exp(const Wide& a) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = exp(a.v[i]);
  return w;
}
// One tree over the sixteen: 8 and 8, then 4 and 4 of the results, and so on.
template <class Op>
HADAL_INLINE float wide_fold(const Wide& w, Op op) {
  Vec v = w.v[0];
  if constexpr (kWideVecs == 2) v = op(v, w.v[1]);
  if constexpr (kLanes == 16) v = op(v, lanes_from<8>(v));
  v = op(v, lanes_from<4>(v));
  v = op(v, lanes_from<2>(v));
  v = op(v, lanes_from<1>(v));
  return first_lane(v);
}
HADAL_INLINE float larger(float a, float b) {
  return a > b ? a : b;
}

// acc[i][g] += a[i * a_row] * b[g * kLanes ..]
template <int R, int G>
HADAL_INLINE void add_product(const float* a, Index a_row, const float* b, Vec (&acc)[R][G]) {
  Vec w[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) w[g] = load(b + g * kLanes);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    const Vec x = broadcast(a[i * a_row]);
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) acc[i][g] = fma(x, w[g], acc[i][g]);
  }
}

// acc[i][g] += sum over k of a(k, i) * b[k * b_stride + g * kLanes ..], k ascending; a(k, i) = a[k * a_step + i *
// a_row].
template <int R, int G>
HADAL_INLINE void add_products(const float* a, Index a_step, Index a_row, const float* b, Index b_stride, Index count,
                               Vec (&acc)[R][G]) {
  for (Index k = 0; k < count; ++k) {
    add_product<R, G>(a, a_row, b, acc);
    a += a_step;
    b += b_stride;
  }
}

// Memory that will be read next, asked for a few lines at a time.
struct Ahead {
  const std::uint8_t* at;
  const std::uint8_t* end;
  HADAL_INLINE void ask(int lines) {
    for (int i = 0; i < lines && at < end; ++i, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
