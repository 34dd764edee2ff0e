// E4M3 weights rounded to int8 by table: which code becomes which is a function of the code and of the largest one in
// its block, and vpermi2b looks up 64 of 128 entries at once. The same codes as Int8FromE4m3, at half the price.
#pragma once

#include "hadal/kernels/cpu/int8_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

struct Int8Table {
  alignas(64) std::int8_t codes[128][128];  // [largest magnitude's code][magnitude's code]
  float to_value[128];                      // what a code of the block is to be multiplied by, * 2^-60
};

constexpr Int8Table make_int8_table() {
  Int8Table t{};
  float magnitude[128] = {};
  for (int c = 0; c < 128; ++c) {
    float v = static_cast<float>(c < 8 ? c : 8 + c % 8) * 0x1p-9f;
    for (int e = 1; e < c / 8; ++e) v *= 2;
    magnitude[c] = v;
  }
  for (int largest = 0; largest < 128; ++largest) {
    t.to_value[largest] = (largest > 0 ? magnitude[largest] * 0x1p-60f : 0x1p-119f) / 127.0f;
    for (int c = 1; c <= largest; ++c)  // adding 1.5 * 2^23 leaves the integer, ties to even
      t.codes[largest][c] =
          static_cast<std::int8_t>(magnitude[c] * (127.0f / magnitude[largest]) + 0x1.8p23f - 0x1.8p23f);
  }
  t.to_value[0x7F] = __builtin_nanf("");
  return t;
}

constexpr Int8Table kInt8Table = make_int8_table();

// The largest magnitude's code among 128 bytes.
HADAL_INLINE int largest_code(const std::uint8_t* p) {
  const IVec mask = all_dwords(0x7F7F7F7Fu);
  const IVec both = max_bytes(bit_and(load_dwords(p), mask), bit_and(load_dwords(p + 64), mask));
  const __m256i half = _mm256_max_epu8(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
  const __m128i four = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // vphminposuw finds the least word: of the complement, and of pairs of bytes the lesser in the low one.
  const __m128i rest = _mm_xor_si128(four, _mm_set1_epi8(-1));
  const __m128i least = _mm_minpos_epu16(_mm_min_epu8(rest, _mm_srli_epi16(rest, 8)));
  return ~_mm_cvtsi128_si32(least) & 0x7F;
}

HADAL_INLINE IVec codes_of(const std::uint8_t* p, int largest) {
  const IVec v = load_dwords(p);
  const std::int8_t* table = kInt8Table.codes[largest];
  const IVec q = _mm512_permutex2var_epi8(load_dwords(table), v, load_dwords(table + 64));  // looks at seven bits only
  return _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(v), _mm512_setzero_si512(), q);
}

// fill_panel for kLanes rows that exist and whole blocks of 128.
template <class Dot>
void fill_panel_by_table(const Matrix& w, Index row, Index begin, Index end, Index lane, const Int8Set& s) {
  std::uint32_t* to = s.panel + lane / kPanelRows * kPanelRows * dwords_of<Dot>(kInt8PanelColumns) + lane % kPanelRows;
  for (Index from = begin; from < end; from += kScaleBlock) {
    const std::uint8_t* p = w.base + (row + lane) * w.row_bytes + from;
    int largest[kLanes];
    alignas(64) float to_value[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      largest[i] = largest_code(p + i * w.row_bytes);
      to_value[i] = kInt8Table.to_value[largest[i]];
    }
    float* factor = s.factors + from / kScaleBlock * kPanelSetRows + lane;
    store(factor, mul(load(factor), load(to_value)));
    IVec sum = all_dwords(0);
    for (Index half = 0; half < kScaleBlock; half += kChunkBytes) {
      IVec r[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) r[i] = codes_of(p + i * w.row_bytes + half, largest[i]);
      transpose(r);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i, to += kPanelRows) {
        sum = Dot::count(sum, r[i]);
        store_dwords(to, r[i]);
      }
    }
    store_dwords(s.starts + (from - begin) / kScaleBlock * kPanelSetRows + lane, Dot::start(sum));
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
