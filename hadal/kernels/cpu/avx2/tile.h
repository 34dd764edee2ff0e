// The innermost loops of products of many rows of x: 6 rows by 16 outputs. In assembly, because the compiler, whose sums
// need all but three or four of the sixteen registers, moves some of them through memory at every step. Four steps
// together: what a core decodes a cycle limits it as soon as another thread shares it.
#pragma once

#include "hadal/kernels/cpu/avx2/wide.h"

namespace hadal::kernels::avx2 {

inline constexpr int kLoopRows = 6;
inline constexpr Index kLoopSteps = 4;

// clang-format off
#define HADAL_ZERO(row)                                      \
  "vxorps %[s" #row "0], %[s" #row "0], %[s" #row "0]\n\t"   \
  "vxorps %[s" #row "1], %[s" #row "1], %[s" #row "1]\n\t"
#define HADAL_STEP(at, x0, x1, x2, x3, x4, x5)   \
  "vmovups " #at "(%[w]), %[w0]\n\t"             \
  "vmovups " #at "+32(%[w]), %[w1]\n\t"          \
  HADAL_ROW(0, x0) HADAL_ROW(1, x1) HADAL_ROW(2, x2) HADAL_ROW(3, x3) HADAL_ROW(4, x4) HADAL_ROW(5, x5)
#define HADAL_LOOP                                                             \
  HADAL_ZERO(0) HADAL_ZERO(1) HADAL_ZERO(2) HADAL_ZERO(3) HADAL_ZERO(4) HADAL_ZERO(5) \
  "1:\n\t"                                                                     \
  "prefetcht0 (%[ahead])\n\t"                                                  \
  HADAL_STEP(0, 0, 4, 8, 12, 16, 20)                                           \
  HADAL_STEP(64, 24, 28, 32, 36, 40, 44)                                       \
  "prefetcht0 64(%[ahead])\n\t"                                                \
  HADAL_STEP(128, 48, 52, 56, 60, 64, 68)                                      \
  HADAL_STEP(192, 72, 76, 80, 84, 88, 92)                                      \
  "add $96, %[x]\n\t"                                                          \
  "add $256, %[w]\n\t"                                                         \
  "add $96, %[ahead]\n\t"                                                      \
  "dec %[count]\n\t"                                                           \
  "jnz 1b"
#define HADAL_SUMS                                                                                     \
  [s00] "=&x"(sums[0][0]), [s01] "=&x"(sums[0][1]), [s10] "=&x"(sums[1][0]), [s11] "=&x"(sums[1][1]),  \
  [s20] "=&x"(sums[2][0]), [s21] "=&x"(sums[2][1]), [s30] "=&x"(sums[3][0]), [s31] "=&x"(sums[3][1]),  \
  [s40] "=&x"(sums[4][0]), [s41] "=&x"(sums[4][1]), [s50] "=&x"(sums[5][0]), [s51] "=&x"(sums[5][1])

// sums = x * w over `count` > 0 times kLoopSteps steps, k ascending; x is [step][6] dwords, w [step][16], and both are
// moved on. `ahead` is asked for at the pace of x. A step is one column in float32,
HADAL_INLINE void sum_steps_of_six(const std::uint32_t*& x, const std::uint32_t*& w, const std::uint32_t*& ahead,
                                   Index count, Vec (&sums)[6][2]) {
#define HADAL_ROW(row, at)                      \
  "vbroadcastss " #at "(%[x]), %[b]\n\t"        \
  "vfmadd231ps %[w0], %[b], %[s" #row "0]\n\t"  \
  "vfmadd231ps %[w1], %[b], %[s" #row "1]\n\t"
  Vec w0, w1, b;
  asm(HADAL_LOOP
      : [x] "+r"(x), [w] "+r"(w), [ahead] "+r"(ahead), [count] "+r"(count), [w0] "=&x"(w0), [w1] "=&x"(w1),
        [b] "=&x"(b), HADAL_SUMS
      :
      : "memory", "cc");
#undef HADAL_ROW
}

// or two columns of words, whose products are summed in integers.
HADAL_INLINE void sum_word_steps_of_six(const std::uint32_t*& x, const std::uint32_t*& w, const std::uint32_t*& ahead,
                                        Index count, IVec (&sums)[6][2]) {
#define HADAL_ROW(row, at)                             \
  "vpbroadcastd " #at "(%[x]), %[b]\n\t"               \
  "vpmaddwd %[w0], %[b], %[p]\n\t"                     \
  "vpmaddwd %[w1], %[b], %[b]\n\t"                     \
  "vpaddd %[p], %[s" #row "0], %[s" #row "0]\n\t"      \
  "vpaddd %[b], %[s" #row "1], %[s" #row "1]\n\t"
  IVec w0, w1, b, p;
  asm(HADAL_LOOP
      : [x] "+r"(x), [w] "+r"(w), [ahead] "+r"(ahead), [count] "+r"(count), [w0] "=&x"(w0), [w1] "=&x"(w1),
        [b] "=&x"(b), [p] "=&x"(p), HADAL_SUMS
      :
      : "memory", "cc");
#undef HADAL_ROW
}

// sums[g] = the products of one row of x with `count` > 0 dwords of E4M3 codes without NaN of 32 rows (E4m3Weights::step
// in decode.h), k ascending; each dword's successor lies 128 bytes on. `ahead` bytes on, lines are asked for.
HADAL_INLINE void sum_e4m3_dwords(const std::uint8_t* w, const std::uint32_t* x, Index ahead, Index count,
                                  Vec (&sums)[4]) {
#define HADAL_GROUP(g)                             \
  "vmovdqu 32*" #g "(%[w]), %[v]\n\t"              \
  "vpsllw $8, %[v], %[t]\n\t"                      \
  "vpsraw $4, %[v], %[v]\n\t"                      \
  "vpsraw $4, %[t], %[t]\n\t"                      \
  "vpslld $16, %[t], %[u]\n\t"                     \
  "vpand %[mask], %[u], %[u]\n\t"                  \
  "vfmadd231ps %[x0], %[u], %[s" #g "]\n\t"        \
  "vpslld $16, %[v], %[u]\n\t"                     \
  "vpand %[mask], %[u], %[u]\n\t"                  \
  "vpand %[mask], %[t], %[t]\n\t"                  \
  "vfmadd231ps %[x1], %[u], %[s" #g "]\n\t"        \
  "vpand %[mask], %[v], %[v]\n\t"                  \
  "vfmadd231ps %[x2], %[t], %[s" #g "]\n\t"        \
  "vfmadd231ps %[x3], %[v], %[s" #g "]\n\t"
  const IVec mask = all_dwords(0x87F00000u);
  Vec x0, x1, x2, x3;
  IVec v, t, u;
  asm("vxorps %[s0], %[s0], %[s0]\n\t"
      "vxorps %[s1], %[s1], %[s1]\n\t"
      "vxorps %[s2], %[s2], %[s2]\n\t"
      "vxorps %[s3], %[s3], %[s3]\n\t"
      "1:\n\t"
      "vbroadcastss (%[x]), %[x0]\n\t"
      "vbroadcastss 4(%[x]), %[x1]\n\t"
      "vbroadcastss 8(%[x]), %[x2]\n\t"
      "vbroadcastss 12(%[x]), %[x3]\n\t"
      "prefetcht1 (%[w],%[ahead])\n\t"
      HADAL_GROUP(0)
      HADAL_GROUP(1)
      "prefetcht1 64(%[w],%[ahead])\n\t"
      HADAL_GROUP(2)
      HADAL_GROUP(3)
      "add $16, %[x]\n\t"
      "sub $-128, %[w]\n\t"
      "dec %[count]\n\t"
      "jnz 1b"
      : [x] "+r"(x), [w] "+r"(w), [count] "+r"(count), [x0] "=&x"(x0), [x1] "=&x"(x1), [x2] "=&x"(x2), [x3] "=&x"(x3),
        [v] "=&x"(v), [t] "=&x"(t), [u] "=&x"(u), [s0] "=&x"(sums[0]), [s1] "=&x"(sums[1]), [s2] "=&x"(sums[2]),
        [s3] "=&x"(sums[3])
      : [ahead] "r"(ahead), [mask] "x"(mask)
      : "memory", "cc");
#undef HADAL_GROUP
}

// The same for R rows of x, [k][R], and sixteen rows of codes.
template <int R>
HADAL_INLINE void sum_e4m3_rows(const std::uint8_t* w, const std::uint32_t* x, Index ahead, Index count,
                                Vec (&sums)[R][2]) {
  static_assert(R >= 2 && R <= 4);
#define HADAL_ROW(rows, step, row, a, b)                                \
  "vbroadcastss 4*(" #step "*" #rows "+" #row ")(%[x]), %[y]\n\t"       \
  "vfmadd231ps %[" #a "], %[y], %[s" #row "0]\n\t"                      \
  "vfmadd231ps %[" #b "], %[y], %[s" #row "1]\n\t"
#define HADAL_SHIFTED(from, to)          \
  "vpslld $16, %[" #from "], %[" #to "]\n\t" \
  "vpand %[mask], %[" #to "], %[" #to "]\n\t"
#define HADAL_MASKED(in) "vpand %[mask], %[" #in "], %[" #in "]\n\t"
#define HADAL_DWORDS(rows, ROWS)                       \
  HADAL_ZEROS                                          \
  "1:\n\t"                                             \
  "vmovdqu (%[w]), %[v0]\n\t"                          \
  "vmovdqu 32(%[w]), %[v1]\n\t"                        \
  "prefetcht1 (%[w],%[ahead])\n\t"                     \
  "prefetcht1 64(%[w],%[ahead])\n\t"                   \
  "vpsllw $8, %[v0], %[t0]\n\t"                        \
  "vpsllw $8, %[v1], %[t1]\n\t"                        \
  "vpsraw $4, %[t0], %[t0]\n\t"                        \
  "vpsraw $4, %[t1], %[t1]\n\t"                        \
  "vpsraw $4, %[v0], %[v0]\n\t"                        \
  "vpsraw $4, %[v1], %[v1]\n\t"                        \
  HADAL_SHIFTED(t0, u0) HADAL_SHIFTED(t1, u1) ROWS(rows, 0, u0, u1) \
  HADAL_SHIFTED(v0, u0) HADAL_SHIFTED(v1, u1) ROWS(rows, 1, u0, u1) \
  HADAL_MASKED(t0) HADAL_MASKED(t1) ROWS(rows, 2, t0, t1)           \
  HADAL_MASKED(v0) HADAL_MASKED(v1) ROWS(rows, 3, v0, v1)           \
  "add $16*" #rows ", %[x]\n\t"                        \
  "sub $-128, %[w]\n\t"                                \
  "dec %[count]\n\t"                                   \
  "jnz 1b"
#define HADAL_ROWS2(rows, step, a, b) HADAL_ROW(rows, step, 0, a, b) HADAL_ROW(rows, step, 1, a, b)
#define HADAL_ROWS3(rows, step, a, b) HADAL_ROWS2(rows, step, a, b) HADAL_ROW(rows, step, 2, a, b)
#define HADAL_ROWS4(rows, step, a, b) HADAL_ROWS3(rows, step, a, b) HADAL_ROW(rows, step, 3, a, b)
#define HADAL_OPERANDS                                                                                              \
  [x] "+r"(x), [w] "+r"(w), [count] "+r"(count), [v0] "=&x"(v0), [v1] "=&x"(v1), [t0] "=&x"(t0), [t1] "=&x"(t1),    \
  [u0] "=&x"(u0), [u1] "=&x"(u1), [y] "=&x"(y), [s00] "=&x"(sums[0][0]), [s01] "=&x"(sums[0][1]),                   \
  [s10] "=&x"(sums[1][0]), [s11] "=&x"(sums[1][1])
#define HADAL_INPUTS [ahead] "r"(ahead), [mask] "x"(mask)
  const IVec mask = all_dwords(0x87F00000u);
  IVec v0, v1, t0, t1, u0, u1;
  Vec y;
  if constexpr (R == 2) {
#define HADAL_ZEROS HADAL_ZERO(0) HADAL_ZERO(1)
    asm(HADAL_DWORDS(2, HADAL_ROWS2) : HADAL_OPERANDS : HADAL_INPUTS : "memory", "cc");
#undef HADAL_ZEROS
  } else if constexpr (R == 3) {
#define HADAL_ZEROS HADAL_ZERO(0) HADAL_ZERO(1) HADAL_ZERO(2)
    asm(HADAL_DWORDS(3, HADAL_ROWS3)
        : HADAL_OPERANDS, [s20] "=&x"(sums[2][0]), [s21] "=&x"(sums[2][1])
        : HADAL_INPUTS
        : "memory", "cc");
#undef HADAL_ZEROS
  } else {
#define HADAL_ZEROS HADAL_ZERO(0) HADAL_ZERO(1) HADAL_ZERO(2) HADAL_ZERO(3)
    asm(HADAL_DWORDS(4, HADAL_ROWS4)
        : HADAL_OPERANDS, [s20] "=&x"(sums[2][0]), [s21] "=&x"(sums[2][1]), [s30] "=&x"(sums[3][0]),
          [s31] "=&x"(sums[3][1])
        : HADAL_INPUTS
        : "memory", "cc");
#undef HADAL_ZEROS
  }
#undef HADAL_INPUTS
#undef HADAL_OPERANDS
#undef HADAL_ROWS4
#undef HADAL_ROWS3
#undef HADAL_ROWS2
#undef HADAL_DWORDS
#undef HADAL_MASKED
#undef HADAL_SHIFTED
#undef HADAL_ROW
}

#undef HADAL_SUMS
#undef HADAL_LOOP
#undef HADAL_STEP
#undef HADAL_ZERO
// clang-format on

}  // namespace hadal::kernels::avx2
