// Stored weights as int8 codes, four of one output in a dword, and the dwords' way into dot products. Included by one
// translation unit per instruction set, after its int8_vec.h and linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/linear_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

// Blocks are rounded as if their largest magnitude were at least this: nothing is divided by zero, and 127 over it is
// still a float.
constexpr std::uint32_t kLeastMagnitude = 0x04000000u;  // 2^-119

// What values are multiplied by to become codes, and codes to become values again: NaN if there is one or an infinity.
struct Rounding {
  Vec to_codes, to_values;

  HADAL_INLINE explicit Rounding(IVec largest_bits) {
    const Vec largest = as_float(max_dwords(largest_bits, all_dwords(kLeastMagnitude)));
    to_codes = div(broadcast(127.0f), largest);
    to_values = add(div(largest, broadcast(127.0f)), sub(largest, largest));
  }
};

// The formats say how many of their dwords make one dword of codes (kIn) or are made of one of theirs (kOut), and
// convert them. Those with kRounds are rounded with what `largest` finds in the block: bits of a magnitude.
struct Int8FromInt8 {
  static constexpr int kIn = 1, kOut = 1, kColumns = 4;
  static constexpr bool kRounds = false;
  HADAL_INLINE static void codes(const IVec* v, Vec, IVec, IVec (&out)[kOut]) { out[0] = v[0]; }
};

struct Int8FromInt4 {
  static constexpr int kIn = 1, kOut = 2, kColumns = 8;
  static constexpr bool kRounds = false;
  HADAL_INLINE static void codes(const IVec* v, Vec, IVec zeros, IVec (&out)[kOut]) {
    out[0] = sub_bytes(spread(bit_and(v[0], all_dwords(0xFFFFu))), zeros);
    out[1] = sub_bytes(spread(right<16>(v[0])), zeros);
  }

 private:
  // Four bits each of the low word, one a byte.
  HADAL_INLINE static IVec spread(IVec v) {
    const IVec pairs = bit_and(bit_or(v, left<8>(v)), all_dwords(0x00FF00FFu));
    return bit_and(bit_or(pairs, left<4>(pairs)), all_dwords(0x0F0F0F0Fu));
  }
};

struct Int8FromE4m3 {
  static constexpr int kIn = 1, kOut = 1, kColumns = 4;
  static constexpr bool kRounds = true;
  // The other 2^60 of the decoder is in the stored scales, see fill_scales.
  HADAL_INLINE static Vec half(IVec decoded) { return mul(as_float(decoded), broadcast(F32Step::kE4m3Unit)); }
  HADAL_INLINE static IVec largest(const IVec* v, int count) {
    IVec m = all_dwords(0);
    for (int i = 0; i < count; ++i) m = max_bytes(m, bit_and(v[i], all_dwords(0x7F7F7F7Fu)));
    m = max_bytes(m, right<16>(m));
    m = bit_and(max_bytes(m, right<8>(m)), all_dwords(0x7F));
    IVec w[4];
    decode<E4m3Weights>(m, zero(), w);
    return as_int(poison(half(w[0]), m));
  }
  HADAL_INLINE static void codes(const IVec* v, Vec to_codes, IVec, IVec (&out)[kOut]) {
    IVec w[4];
    decode<E4m3Weights>(v[0], zero(), w);
#pragma GCC unroll 4
    for (IVec& i : w) i = to_int(mul(half(i), to_codes));
    out[0] = join_bytes(w);
  }
};

struct Int8FromBf16 {
  static constexpr int kIn = 2, kOut = 1, kColumns = 2;
  static constexpr bool kRounds = true;
  HADAL_INLINE static IVec largest(const IVec* v, int count) {
    IVec m = all_dwords(0);
    for (int i = 0; i < count; ++i)
      m = max_dwords(max_dwords(m, bit_and(v[i], all_dwords(0x7FFF0000u))),
                     bit_and(left<16>(v[i]), all_dwords(0x7FFF0000u)));
    return m;
  }
  HADAL_INLINE static void codes(const IVec* v, Vec to_codes, IVec, IVec (&out)[kOut]) {
    IVec w[4];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      w[2 * i] = to_int(mul(as_float(left<16>(v[i])), to_codes));
      w[2 * i + 1] = to_int(mul(as_float(bit_and(v[i], all_dwords(0xFFFF0000u))), to_codes));
    }
    out[0] = join_bytes(w);
  }
};

// Codes as pairs of words: columns 0 and 2 of four, then 1 and 3. Exact for all codes: -128 * 127 * 2 fits.
struct WordDot {
  static constexpr int kColumns = 4, kDwords = 2;  // columns that are split, and dwords of operands that they give
  HADAL_INLINE static void split(IVec codes, IVec (&out)[kDwords]) {
    out[0] = words_right_signed_8(words_left_8(codes));
    out[1] = words_right_signed_8(codes);
  }
  HADAL_INLINE static void split_x(IVec codes, IVec (&out)[kDwords]) { split(codes, out); }
  static constexpr bool kStarts = false, kHasTable = false, kOffset = false;
  HADAL_INLINE static IVec count(IVec sum, IVec) { return sum; }
  HADAL_INLINE static IVec mac(IVec acc, IVec x, IVec w) { return dot_words(acc, x, w); }
};

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
