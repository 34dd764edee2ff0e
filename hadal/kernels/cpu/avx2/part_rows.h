// Rows that are no whole number of vectors, eight floats at a time; included by the row kernels of AVX2.
#pragma once

#include "hadal/kernels/cpu/avx2/wide.h"

namespace hadal::kernels::avx2 {
namespace {

// `count` elements, or all eight if there are more.
HADAL_INLINE Vec take(const float* p, Index count) {
  return count >= kLanes ? load(p) : load_first(p, count);
}
HADAL_INLINE void put(float* p, Vec v, Index count) {
  if (count >= kLanes)
    store(p, v);
  else
    store_first(p, v, count);
}

}  // namespace
}  // namespace hadal::kernels::avx2
