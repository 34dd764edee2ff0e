// Stored weights to lanes of outputs. A decoder takes one 32-bit column of kLanes rows (what `transpose` gives: lane =
// row, dword = the next few weights of that row) and yields the operands of the next steps of the chains, k ascending.
// Included by one translation unit per instruction set, after its vector header.
#pragma once

namespace hadal::kernels::HADAL_ISA {
namespace {

// A step of float32 chains: one k, acc = x * w + acc.
struct F32Step {
  using Acc = Vec;
  static constexpr int kColumns = 1;
  static constexpr float kE4m3Unit = 0x1p60f;  // see E4m3Weights
  HADAL_INLINE static Acc zero_acc() { return zero(); }
  HADAL_INLINE static Acc mac(Acc acc, IVec x, IVec w) { return fma(as_float(x), as_float(w), acc); }
  HADAL_INLINE static Vec sum(Acc acc) { return acc; }
};

struct F32Weights {
  static constexpr int kSteps = 1;    // steps a dword gives
  static constexpr int kColumns = 1;  // k a dword holds
  static constexpr bool kHasNan = false;
  HADAL_INLINE static void decode(IVec v, Vec, IVec (&w)[kSteps]) { w[0] = v; }
};

struct Bf16Weights {
  static constexpr int kSteps = 2, kColumns = 2;
  static constexpr bool kHasNan = false;
  HADAL_INLINE static void decode(IVec v, Vec, IVec (&w)[kSteps]) {
    w[0] = left<16>(v);
    w[1] = bit_and(v, all_dwords(0xFFFF0000u));
  }
};

struct F16Weights {
  static constexpr int kSteps = 2, kColumns = 2;
  static constexpr bool kHasNan = false;
  HADAL_INLINE static void decode(IVec v, Vec, IVec (&w)[kSteps]) {
    w[0] = as_int(half_to_float(v));
    w[1] = as_int(half_to_float(right<16>(v)));
  }
};

// Sign, exponent and mantissa moved to their places in a float with the exponent still biased by 7: value * 2^-120,
// exact, subnormals included (they are subnormal floats; nothing here flushes them). x carries 2^60 and the scale the
// other 2^60, so that products stay in the normal range. NaN codes come out as 480 and are dealt with by `poison`.
struct E4m3Weights {
  static constexpr int kSteps = 4, kColumns = 4;
  static constexpr bool kHasNan = true;
  HADAL_INLINE static void decode(IVec v, Vec, IVec (&w)[kSteps]) {
    const IVec mask = all_dwords(0x87F00000u);
    const IVec odd = words_right_signed_4(v);  // bytes 1 and 3 of each dword
    const IVec even = words_right_signed_4(words_left_8(v));
    w[0] = bit_and(left<16>(even), mask);
    w[1] = bit_and(left<16>(odd), mask);
    w[2] = bit_and(even, mask);
    w[3] = bit_and(odd, mask);
  }
};

// The same weights, known to hold no NaN code.
template <class Weights>
struct Clean : Weights {
  static constexpr bool kHasNan = false;
};

struct Int8Weights {
  static constexpr int kSteps = 4, kColumns = 4;
  static constexpr bool kHasNan = false;
  HADAL_INLINE static void decode(IVec v, Vec, IVec (&w)[kSteps]) {
    w[0] = as_int(to_float(right_signed<24>(left<24>(v))));
    w[1] = as_int(to_float(right_signed<24>(left<16>(v))));
    w[2] = as_int(to_float(right_signed<24>(left<8>(v))));
    w[3] = as_int(to_float(right_signed<24>(v)));
  }
};

// Eight codes a dword, as float32 differences to the zero: code - 8, less what `zero` is above 8.
template <bool kHasZero>
struct Int4Weights {
  static constexpr int kSteps = 8, kColumns = 8;
  static constexpr bool kHasNan = false;
  HADAL_INLINE static void decode(IVec v, Vec zero, IVec (&w)[kSteps]) {
    const IVec s = bit_xor(v, all_dwords(0x88888888u));  // code - 8 in two's complement, four bits each
    w[0] = take<28>(s, zero);
    w[1] = take<24>(s, zero);
    w[2] = take<20>(s, zero);
    w[3] = take<16>(s, zero);
    w[4] = take<12>(s, zero);
    w[5] = take<8>(s, zero);
    w[6] = take<4>(s, zero);
    w[7] = take<0>(s, zero);
  }

 private:
  template <int kShift>
  HADAL_INLINE static IVec take(IVec s, Vec zero) {
    const Vec value = nibble_to_float<kShift>(s);
    return as_int(kHasZero ? sub(value, zero) : value);
  }
};

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
