// Stored weights to lanes of outputs. A decoder takes one 32-bit column of kLanes rows (what `transpose` gives: lane =
// row, dword = the next few weights of that row) and yields the operand of one of the next steps, k ascending.
// Included by one translation unit per instruction set, after its vector header.
#pragma once

namespace hadal::kernels::HADAL_ISA {
namespace {

// What steps have in common whose sums are vectors of float32.
struct FloatSums {
  using Acc = Vec;
  using X = IVec;
  static constexpr int kXDwords = 1;                                    // of packed x, per row
  static constexpr int kBlockDwords = 0;                                // kept of every row and block of x
  static constexpr Index kMostDirectRows = 24;                          // see is_direct
  static constexpr int kDirectTileRows = kLanes == 16 ? kTileRows : 4;  // whose sums fit beside the weights
  static constexpr int kPackedRows = kTileRows;                         // a tile has room for
  static constexpr int kMostWideRows = kLanes == 16 ? 4 : 3;  // whose sums of four groups fit into the registers
  HADAL_INLINE static X x(const std::uint32_t* p) { return broadcast_dword(p); }
  HADAL_INLINE static Acc zero_acc() { return zero(); }
  template <class Weights>
  HADAL_INLINE static Acc start(const std::uint32_t*, const float*) {
    return zero();
  }
  template <int G>
  HADAL_INLINE static void row_done(Acc (&)[G]) {}
  HADAL_INLINE static Vec sum(Acc acc) { return acc; }
};

// A step of float32 chains: one k, acc = x * w + acc.
struct F32Step : FloatSums {
  static constexpr int kColumns = 1;
  static constexpr float kE4m3Unit = 0x1p60f;  // see E4m3Weights
  HADAL_INLINE static Acc mac(Acc acc, X x, IVec w) { return fma(as_float(x), as_float(w), acc); }
};

struct F32Weights {
  static constexpr int kSteps = 1;    // steps a dword gives
  static constexpr int kColumns = 1;  // k a dword holds
  static constexpr bool kHasNan = false;
  template <int>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return v;
  }
};

struct Bf16Weights {
  static constexpr int kSteps = 2, kColumns = 2;
  static constexpr bool kHasNan = false;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return kStep == 0 ? left<16>(v) : bit_and(v, all_dwords(0xFFFF0000u));
  }
};

struct F16Weights {
  static constexpr int kSteps = 2, kColumns = 2;
  static constexpr bool kHasNan = false;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return as_int(half_to_float(kStep == 0 ? v : right<16>(v)));
  }
};

// Sign, exponent and mantissa moved to their places in a float with the exponent still biased by 7: value * 2^-120,
// exact, subnormals included (they are subnormal floats; nothing here flushes them). x carries 2^60 and the scale the
// other 2^60, so that products stay in the normal range. NaN codes come out as 480 and are dealt with by `poison`.
struct E4m3Weights {
  static constexpr int kSteps = 4, kColumns = 4;
  static constexpr bool kHasNan = true;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    // Bytes 1 and 3 of each dword, or 0 and 2, as words with the sign in front.
    const IVec words = words_right_signed_4(kStep % 2 ? v : words_left_8(v));
    return bit_and(kStep < 2 ? left<16>(words) : words, all_dwords(0x87F00000u));
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
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return as_int(to_float(right_signed<24>(left<24 - 8 * kStep>(v))));
  }
};

// Eight codes a dword, as float32 differences to the zero: code - 8, less what `zero` is above 8.
template <bool kHasZero>
struct Int4Weights {
  static constexpr int kSteps = 8, kColumns = 8;
  static constexpr bool kHasNan = false;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec zero) {
    const IVec s = bit_xor(v, all_dwords(0x88888888u));  // code - 8 in two's complement, four bits each
    const Vec value = nibble_to_float<28 - 4 * kStep>(s);
    return as_int(kHasZero ? sub(value, zero) : value);
  }
};

// All steps of a dword.
template <class Weights, int kStep = 0>
HADAL_INLINE void decode(IVec v, Vec zero, IVec (&w)[Weights::kSteps]) {
  w[kStep] = Weights::template step<kStep>(v, zero);
  if constexpr (kStep + 1 < Weights::kSteps) decode<Weights, kStep + 1>(v, zero, w);
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
