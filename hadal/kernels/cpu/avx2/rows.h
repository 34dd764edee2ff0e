// Four steps of the sums of attention, whose factors lie in rows as they were made instead of packed tiles. In assembly
// for the reasons of tile.h; straight pieces, between which the compiler keeps the sums in registers.
#pragma once

#include "hadal/kernels/cpu/avx2/tile.h"

namespace hadal::kernels::avx2 {

// clang-format off

// sums[i] += x[i * stride + k] * w[k * 16 ..] for k = 0 .. kLoopSteps - 1 in that order.
HADAL_INLINE void add_steps_of_six_rows(const float* x, Index stride, const float* w, Vec (&sums)[6][2]) {
#define HADAL_ROW(row, ...)                          \
  "vbroadcastss " __VA_ARGS__ ", %%ymm13\n\t"        \
  "vfmadd231ps %%ymm14, %%ymm13, %[s" #row "0]\n\t"  \
  "vfmadd231ps %%ymm15, %%ymm13, %[s" #row "1]\n\t"
#define HADAL_STEP(k)                                                                                     \
  "vmovups 64*" #k "(%[w]), %%ymm14\n\t"                                                                  \
  "vmovups 64*" #k "+32(%[w]), %%ymm15\n\t"                                                               \
  HADAL_ROW(0, "4*" #k "(%[x])") HADAL_ROW(1, "4*" #k "(%[x],%[r])") HADAL_ROW(2, "4*" #k "(%[x],%[r],2)") \
  HADAL_ROW(3, "4*" #k "(%[x],%[r3])") HADAL_ROW(4, "4*" #k "(%[x],%[r],4)") HADAL_ROW(5, "4*" #k "(%[x],%[r5])")
  const Index r = stride * 4;
  asm(HADAL_STEP(0) HADAL_STEP(1) HADAL_STEP(2) HADAL_STEP(3)
      : [s00] "+x"(sums[0][0]), [s01] "+x"(sums[0][1]), [s10] "+x"(sums[1][0]), [s11] "+x"(sums[1][1]),
        [s20] "+x"(sums[2][0]), [s21] "+x"(sums[2][1]), [s30] "+x"(sums[3][0]), [s31] "+x"(sums[3][1]),
        [s40] "+x"(sums[4][0]), [s41] "+x"(sums[4][1]), [s50] "+x"(sums[5][0]), [s51] "+x"(sums[5][1])
      : [x] "r"(x), [w] "r"(w), [r] "r"(r), [r3] "r"(r * 3), [r5] "r"(r * 5)
      : "memory", "xmm13", "xmm14", "xmm15");
#undef HADAL_STEP
#undef HADAL_ROW
}

// sums[i] += x[k * x_stride + i] * w[k * w_stride ..], the same way.
HADAL_INLINE void add_steps_of_four(const float* x, Index x_stride, const float* w, Index w_stride, Vec (&sums)[4][3]) {
#define HADAL_ROW(row, x)                            \
  "vbroadcastss 4*" #row "+" x ", %%ymm12\n\t"       \
  "vfmadd231ps %%ymm13, %%ymm12, %[s" #row "0]\n\t"  \
  "vfmadd231ps %%ymm14, %%ymm12, %[s" #row "1]\n\t"  \
  "vfmadd231ps %%ymm15, %%ymm12, %[s" #row "2]\n\t"
#define HADAL_STEP(x, w)             \
  "vmovups " w ", %%ymm13\n\t"       \
  "vmovups 32" w ", %%ymm14\n\t"     \
  "vmovups 64" w ", %%ymm15\n\t"     \
  HADAL_ROW(0, x) HADAL_ROW(1, x) HADAL_ROW(2, x) HADAL_ROW(3, x)
  const Index a = x_stride * 4, b = w_stride * 4;
  asm(HADAL_STEP("0(%[x])", "(%[w])") HADAL_STEP("0(%[x],%[a])", "(%[w],%[b])")
      HADAL_STEP("0(%[x],%[a],2)", "(%[w],%[b],2)") HADAL_STEP("0(%[x],%[a3])", "(%[w],%[b3])")
      : [s00] "+x"(sums[0][0]), [s01] "+x"(sums[0][1]), [s02] "+x"(sums[0][2]), [s10] "+x"(sums[1][0]),
        [s11] "+x"(sums[1][1]), [s12] "+x"(sums[1][2]), [s20] "+x"(sums[2][0]), [s21] "+x"(sums[2][1]),
        [s22] "+x"(sums[2][2]), [s30] "+x"(sums[3][0]), [s31] "+x"(sums[3][1]), [s32] "+x"(sums[3][2])
      : [x] "r"(x), [w] "r"(w), [a] "r"(a), [a3] "r"(a * 3), [b] "r"(b), [b3] "r"(b * 3)
      : "memory", "xmm12", "xmm13", "xmm14", "xmm15");
#undef HADAL_STEP
#undef HADAL_ROW
}
// clang-format on

}  // namespace hadal::kernels::avx2
