// Chains of vdpbf16ps: a step takes two k. Weights in E4M3, INT8 and INT4 are exact in BF16, so that only x is rounded.
#pragma once

#include "hadal/kernels/cpu/linear_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

struct Bf16Step : FloatSums {
  static constexpr int kColumns = 2;
  static constexpr float kE4m3Unit = 1;
  HADAL_INLINE static Acc mac(Acc acc, X x, IVec w) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }
};

struct Bf16Pairs {
  static constexpr int kSteps = 1, kColumns = 2;
  static constexpr bool kHasNan = false;
  template <int>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return v;
  }
};

// The high and low bytes of 64 BF16 numbers to two vectors of pairs: bytes come in the order of `pair_order`.
template <int kStep>
HADAL_INLINE IVec interleave(IVec high, IVec low) {
  return kStep == 0 ? _mm512_unpacklo_epi8(low, high) : _mm512_unpackhi_epi8(low, high);
}
// Within each 128 bits, four rows of k0 k1 k2 k3: first k0 k1 of every row, then k2 k3.
HADAL_INLINE IVec pair_order(IVec v) {
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order));
}

// The bytes of BF16 numbers, of which `number` gives the i-th, in two registers for a look-up by seven bits.
struct ByteTable {
  alignas(64) std::uint8_t high[128], low[128];
};
template <class Number>
constexpr ByteTable make_table(Number number) {
  ByteTable t{};
  for (int i = 0; i < 128; ++i) {
    const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(number(i)) >> 16);
    t.high[i] = static_cast<std::uint8_t>(bits >> 8);
    t.low[i] = static_cast<std::uint8_t>(bits & 0xFF);
  }
  return t;
}
HADAL_INLINE IVec look_up(const std::uint8_t (&table)[128], IVec index) {
  return _mm512_permutex2var_epi8(load_dwords(table), index, load_dwords(table + 64));
}

constexpr float e4m3_magnitude(int code) {
  float value = code < 8 ? static_cast<float>(code) : static_cast<float>(8 + code % 8);
  for (int e = code < 8 ? 1 : code / 8; e > 1; --e) value *= 2;
  return value * 0x1p-9f;
}
constexpr ByteTable kE4m3Table = make_table(e4m3_magnitude);
constexpr ByteTable kIntegerTable = make_table([](int i) { return static_cast<float>(i); });

struct E4m3Pairs {
  static constexpr int kSteps = 2, kColumns = 4;
  static constexpr bool kHasNan = true;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    const IVec codes = pair_order(v);
    const IVec sign = _mm512_set1_epi8(static_cast<char>(0x80));
    // The look-up does not see the sign; it goes back on top of the high byte.
    const IVec high = _mm512_ternarylogic_epi32(look_up(kE4m3Table.high, codes), codes, sign, 0xF8);  // a | (b & c)
    return interleave<kStep>(high, look_up(kE4m3Table.low, codes));
  }
};

struct Int8Pairs {
  static constexpr int kSteps = 2, kColumns = 4;
  static constexpr bool kHasNan = false;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    const IVec codes = pair_order(v);
    const IVec sign = _mm512_set1_epi8(static_cast<char>(0x80));
    const IVec magnitude = _mm512_abs_epi8(codes);
    IVec high = _mm512_ternarylogic_epi32(look_up(kIntegerTable.high, magnitude), codes, sign, 0xF8);
    IVec low = look_up(kIntegerTable.low, magnitude);
    const __mmask64 least = _mm512_cmpeq_epi8_mask(codes, sign);  // -128 has no seven-bit magnitude
    high = _mm512_mask_mov_epi8(high, least, _mm512_set1_epi8(static_cast<char>(0xC3)));
    low = _mm512_mask_mov_epi8(low, least, _mm512_setzero_si512());
    return interleave<kStep>(high, low);
  }
};

template <bool kHasZero>
struct Int4Pairs {
  static constexpr int kSteps = 4, kColumns = 8;
  static constexpr bool kHasNan = false;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec zero) {
    // Words of code - (8 + zero) + 16, which look up their number.
    IVec offset = _mm512_set1_epi16(8);
    if constexpr (kHasZero) {
      const IVec zeros = to_int(zero);
      offset = _mm512_sub_epi16(offset, bit_or(bit_and(zeros, all_dwords(0xFFFF)), left<16>(zeros)));
    }
    const IVec byte = right<8 * kStep>(v);
    const IVec both = bit_or(bit_and(byte, all_dwords(0xF)), bit_and(left<12>(byte), all_dwords(0xF0000)));
    return _mm512_permutexvar_epi16(_mm512_add_epi16(both, offset), load_dwords(kTable.bits));
  }

 private:
  struct Table {
    alignas(64) std::uint16_t bits[32];
  };
  static constexpr Table kTable = [] {
    Table t{};
    for (int i = 0; i < 32; ++i)
      t.bits[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(i - 16)) >> 16);
    return t;
  }();
};

// Columns [k_begin, k_end) of [k / 2][height] pairs; k_end = k fills the padding behind with zeros.
void pack_bf16(const LinearArgs& a, Index tile, Index k_begin, Index k_end, std::uint32_t* to) {
  const int height = packed_height(a, tile);
  const Index first = tile * tile_rows(a), padded = k_end == a.k ? round_up(a.k, 32) : k_end;
  for (Index c = k_begin; c < padded; c += 2 * kLanes) {
    IVec r[kLanes];
    const Index columns = a.k - c < 2 * kLanes ? (a.k > c ? a.k - c : 0) : 2 * kLanes;
    const Index low = columns < kLanes ? columns : kLanes, high = columns - low;
    for (int i = 0; i < kLanes; ++i) {
      r[i] = all_dwords(0);
      if (i >= height || first + i >= a.m || columns == 0) continue;
      const float* x = input_row(a, first + i) + c;
      r[i] = reinterpret_cast<IVec>(_mm512_cvtne2ps_pbh(load_first(x + low, high), load_first(x, low)));
    }
    if (height == 1) {
      store_dwords(to + c / 2, r[0]);
      continue;
    }
    transpose(r);
    for (int j = 0; j < kLanes; ++j)
      store_column(reinterpret_cast<float*>(to), as_float(r[j]), c / 2 + j, padded / 2, height);
  }
}

void pack_tiles_bf16(const LinearArgs& a, Index begin, Index end, Index k_begin, Index k_end, void* packed) {
  for (Index tile = begin; tile < end; ++tile)
    pack_bf16(a, tile, k_begin, k_end, static_cast<std::uint32_t*>(packed) + tile * kTileRows * round_up(a.k, 32) / 2);
}

// Weights in F32 and F16 are not exact in BF16: they go through float32 chains.
constexpr bool takes_bf16(DType weights) {
  return weights != DType::kF32 && weights != DType::kF16;
}

void multiply_bf16(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next,
                   void* scratch) {
  switch (a.w_dtype) {
    case DType::kBF16:
      return multiply_as<Bf16Step, Bf16Pairs>(a, packed, n_begin, n_end, next, scratch);
    case DType::kI8:
      return multiply_as<Bf16Step, Int8Pairs>(a, packed, n_begin, n_end, next, scratch);
    case DType::kI32:
      return a.w_zero ? multiply_as<Bf16Step, Int4Pairs<true>>(a, packed, n_begin, n_end, next, scratch)
                      : multiply_as<Bf16Step, Int4Pairs<false>>(a, packed, n_begin, n_end, next, scratch);
    default:
      return multiply_as<Bf16Step, E4m3Pairs>(a, packed, n_begin, n_end, next, scratch);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
