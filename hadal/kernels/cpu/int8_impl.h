// The product of linear.h with x rounded to int8, written once for every instruction set. Included like linear_impl.h,
// after int8_codes.h.
//
// x has one scale per row and block: the largest magnitude of the block / 127, codes to nearest even. Weights in INT8
// and INT4 are exact; those in E4M3 and BF16 are rounded in the same way, per output and block. The sum of a block is
// an exact integer, so instruction sets only agree by writing the end identically:
//   total = fma(float(sum), (stored scale * weight's scale) * x's scale, total), blocks ascending, from zero.
//
// Packed x, tile by tile: [steps][height] dwords of codes, then [blocks][height] scales. Weights always go through a
// panel: sets of kPanelSetRows outputs, up to kPanelColumns of K, [steps][kPanelGroups * kLanes] dwords.
#pragma once

#include <type_traits>

#include "hadal/kernels/cpu/int8_codes.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr Index kPanelRows = kPanelGroups * kLanes;
constexpr Index kMostBlocks = kPanelColumns / 32;  // of a panel

template <class Dot>
HADAL_INLINE Index dwords_of(Index columns) {
  return (columns + 3) / 4 * Dot::kDwords;
}

template <class Dot>
HADAL_INLINE Index packed_dwords(const LinearArgs& a, const Matrix& w) {
  return kTileRows * (dwords_of<Dot>(a.k) + w.blocks);
}

template <class Dot>
Index int8_packed_bytes_as(const LinearArgs& a) {
  return tiles_of(a) * packed_dwords<Dot>(a, Matrix{a}) * 4;
}

// Up to kScaleBlock columns of a row as dwords of codes; returns their scale.
template <class Dot>
HADAL_INLINE float round_block(const float* x, Index columns, std::uint32_t* dwords) {
  alignas(64) float values[kScaleBlock];
  alignas(64) std::uint8_t codes[kScaleBlock];
  const Index padded = round_up(columns, kLanes * 4);
  if (columns < padded) {
    for (Index i = 0; i < padded; ++i) values[i] = i < columns ? x[i] : 0.0f;
    x = values;
  }
  IVec bits = all_dwords(0);
  for (Index i = 0; i < padded; i += kLanes) bits = max_dwords(bits, bit_and(load_dwords(x + i), all_dwords(~0u >> 1)));
  const Rounding rounding(all_dwords(largest_dword(bits)));
  for (Index i = 0; i < padded; i += kLanes) store_bytes(codes + i, to_int(mul(load(x + i), rounding.to_codes)));
  for (Index i = 0; i < padded; i += kLanes * 4) {
    IVec split[Dot::kDwords];
    Dot::split_x(load_dwords(codes + i), split);
    for (int s = 0; s < Dot::kDwords; ++s) {
      alignas(64) std::uint32_t lanes[kLanes];
      store_dwords(lanes, split[s]);
      for (int j = 0; j < kLanes; ++j) dwords[(i / 4 + j) * Dot::kDwords + s] = lanes[j];
    }
  }
  float scale[kLanes];
  store(scale, rounding.to_values);
  return scale[0];
}

template <class Dot>
void round_tile(const LinearArgs& a, const Matrix& w, Index tile, Index k_begin, Index k_end, std::uint32_t* to) {
  const int height = packed_height(a, tile);
  auto* scales = reinterpret_cast<float*>(to + kTileRows * dwords_of<Dot>(a.k));
  alignas(64) std::uint32_t dwords[kScaleBlock / 4 * Dot::kDwords];
  static constexpr float kZeros[kScaleBlock] = {};
  for (int i = 0; i < height; ++i)
    for (Index begin = k_begin; begin < k_end; begin += w.block) {
      const Index columns = k_end - begin < w.block ? k_end - begin : w.block, row = tile * tile_rows(a) + i;
      // Rows that only fill the tile are zeros.
      scales[begin / w.block * height + i] =
          round_block<Dot>(row < a.m ? input_row(a, row) + begin : kZeros, columns, dwords);
      std::uint32_t* at = to + dwords_of<Dot>(begin) * height + i;
      for (Index d = 0; d < dwords_of<Dot>(columns); ++d) at[d * height] = dwords[d];
    }
}

template <class Dot>
void int8_pack_as(const LinearArgs& a, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed) {
  const Matrix w{a};
  for (Index tile = tile_begin; tile < tile_end; ++tile)
    round_tile<Dot>(a, w, tile, k_begin, k_end, static_cast<std::uint32_t*>(packed) + tile * packed_dwords<Dot>(a, w));
}

// A set of outputs as it is worked on; everything per block has kPanelSetRows entries.
struct Int8Set {
  float* factors;        // [blocks of K]: what sums are multiplied by, besides x's scales
  float* zeros;          // [blocks of K], INT4 only: zero points above 8
  std::int32_t* starts;  // [blocks of the panel]: where sums start, if not at zero
  std::uint32_t* panel;  // [panels][steps][kPanelRows]

  Int8Set(const LinearArgs& a, const Matrix& w, void* memory)
      : factors(static_cast<float*>(memory)),
        zeros(a.w_zero ? factors + w.blocks * kPanelSetRows : nullptr),
        starts(reinterpret_cast<std::int32_t*>(factors + (zeros ? 2 : 1) * w.blocks * kPanelSetRows)),
        panel(reinterpret_cast<std::uint32_t*>(starts + kMostBlocks * kPanelSetRows)) {}
};

template <class Dot>
Index int8_scratch_bytes_as(const LinearArgs& a) {
  return ((2 * Matrix{a}.blocks + kMostBlocks) * kPanelSetRows + dwords_of<Dot>(kPanelColumns) * kPanelSetRows) * 4;
}

// Whole blocks, so that a block's codes are rounded and summed within one panel.
HADAL_INLINE Index panel_end(const Matrix& w, Index begin) {
  const Index end = begin + kPanelColumns / w.block * w.block;
  return end < w.k ? end : w.k;
}

// Where an instruction set has a better way for E4M3 (Dot::kHasTable).
template <class Dot>
void fill_panel_by_table(const Matrix& w, Index row, Index begin, Index end, Index lane, const Int8Set& s);

// Columns [begin, end) of kLanes outputs, `lane` being their place in the set, as operands of Dot.
template <class Dot, class Weights>
void fill_panel(const LinearArgs& a, const Matrix& w, Index row, Index begin, Index end, Index lane, const Int8Set& s) {
  if constexpr (Dot::kHasTable && std::is_same_v<Weights, Int8FromE4m3>)
    if (!w.grouped && a.w_scale && w.block == kScaleBlock && (end - begin) % kScaleBlock == 0 &&
        row + lane + kLanes <= w.n)
      return fill_panel_by_table<Dot>(w, row, begin, end, lane, s);
  constexpr Index kBytes = kPanelColumns * 4 / Weights::kColumns;
  alignas(64) IVec staged[kBytes / 4];
  const Index first = begin * 4 / Weights::kColumns;
  const Index from_row = row + lane < w.n ? row + lane : w.n - 1;
  const Index width = ((end - begin) * 4 + Weights::kColumns - 1) / Weights::kColumns;
  IVec unused;
  for (Index byte = 0; byte < width; byte += kChunkBytes)
    stage<false>(w, from_row, first + byte, staged + byte / 4, 1, unused);
  std::uint32_t* to = s.panel + lane / kPanelRows * kPanelRows * dwords_of<Dot>(kPanelColumns) + lane % kPanelRows;
  for (Index from = begin; from < end; from += w.block) {
    const Index block = from / w.block, columns = end - from < w.block ? end - from : w.block;
    const IVec* in = staged + (from - begin) / Weights::kColumns;
    const int groups =
        static_cast<int>((columns + Weights::kIn * Weights::kColumns - 1) / (Weights::kIn * Weights::kColumns));
    Vec to_codes = zero();
    if constexpr (Weights::kRounds) {
      const Rounding rounding(Weights::largest(in, groups * Weights::kIn));
      float* factor = s.factors + block * kPanelSetRows + lane;
      store(factor, a.w_scale ? mul(load(factor), rounding.to_values) : rounding.to_values);
      to_codes = rounding.to_codes;
    }
    IVec zeros = all_dwords(0x08080808u);
    if (s.zeros) {
      zeros = add_dwords(to_int(load(s.zeros + block * kPanelSetRows + lane)), all_dwords(8));
      zeros = bit_or(zeros, left<8>(zeros));
      zeros = bit_or(zeros, left<16>(zeros));
    }
    IVec sum = all_dwords(0);
    for (int i = 0; i < groups; ++i) {
      IVec codes[Weights::kOut];
      Weights::codes(in + i * Weights::kIn, to_codes, zeros, codes);
#pragma GCC unroll 2
      for (int o = 0; o < Weights::kOut; ++o) {
        // An odd half of a dword behind K has no step.
        if (Weights::kOut > 1 && (i * Weights::kOut + o) * 4 >= columns) break;
        IVec operand[Dot::kDwords];
        Dot::split(codes[o], operand);
        sum = Dot::count(sum, codes[o]);
#pragma GCC unroll 2
        for (int d = 0; d < Dot::kDwords; ++d, to += kPanelRows) store_dwords(to, operand[d]);
      }
    }
    if constexpr (Dot::kStarts)
      store_dwords(s.starts + (block - begin / w.block) * kPanelSetRows + lane, Dot::start(sum));
  }
}

// What a tile's sums of one block are multiplied by.
struct Int8Factors {
  Vec of_outputs[kPanelGroups];
  const float* of_rows;
};

// y += sums * factors, or = in the first block, for a tile of R rows whose outputs all exist.
template <int R>
HADAL_INLINE void finish_whole(float* y, Index stride, bool first, const IVec (&sum)[R][kPanelGroups],
                               const Int8Factors& f) {
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i, y += stride) {
    const Vec scale = broadcast(f.of_rows[i]);
#pragma GCC unroll 2
    for (int g = 0; g < kPanelGroups; ++g) {
      float* to = y + g * kLanes;
      store(to, fma(to_float(sum[i][g]), mul(f.of_outputs[g], scale), first ? zero() : load(to)));
    }
  }
}

// The same for `rows` of the rows and the first `room` outputs.
template <int R>
void finish_part(float* y, Index stride, bool first, const IVec (&sum)[R][kPanelGroups], const Int8Factors& f,
                 Index rows, Index room) {
  for (int i = 0; i < R && i < rows; ++i, y += stride)
    for (int g = 0; g < kPanelGroups && g * kLanes < room; ++g) {
      float* to = y + g * kLanes;
      const Index count = room - g * kLanes < kLanes ? room - g * kLanes : kLanes;
      const Vec total = first ? zero() : load_first(to, count);
      store_first(to, fma(to_float(sum[i][g]), mul(f.of_outputs[g], broadcast(f.of_rows[i])), total), count);
    }
}

// R rows by kPanelRows outputs over columns [begin, end), one panel. x and x_scale are the tile's.
template <class Dot, int R>
void int8_tile(const LinearArgs& a, const Matrix& w, Index first_row, Index column, Index begin, Index end,
               const std::uint32_t* x, const float* x_scale, const Int8Set& s, Index lane) {
  const std::uint32_t* panel = s.panel + lane * dwords_of<Dot>(kPanelColumns);
  const bool whole = first_row + R <= a.m && column + kPanelRows <= w.n;
  x += dwords_of<Dot>(begin) * R;
  for (Index from = begin; from < end; from += w.block) {
    const Index to = from + w.block < end ? from + w.block : end, block = from / w.block;
    IVec acc[R][kPanelGroups];
    const std::int32_t* starts = s.starts + (from - begin) / w.block * kPanelSetRows + lane;
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int g = 0; g < kPanelGroups; ++g)
        acc[i][g] = Dot::kStarts ? load_dwords(starts + g * kLanes) : all_dwords(0);
    for (Index steps = dwords_of<Dot>(to - from); steps > 0; --steps) {
      const IVec w0 = load_dwords(panel), w1 = load_dwords(panel + kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const IVec xs = broadcast_dword(x + i);
        acc[i][0] = Dot::mac(acc[i][0], xs, w0);
        acc[i][1] = Dot::mac(acc[i][1], xs, w1);
        row_done(acc[i][0], acc[i][1]);
      }
      panel += kPanelRows;
      x += R;
    }
    const float* factors = s.factors + block * kPanelSetRows + lane;
    const Int8Factors f = {{load(factors), load(factors + kLanes)}, x_scale + block * R};
    float* y = a.y + first_row * a.y_stride + column;
    if (whole && from > 0) {
      finish_whole<R>(y, a.y_stride, false, acc, f);
    } else if (whole) {
      finish_whole<R>(y, a.y_stride, true, acc, f);
    } else {
      IVec sums[R][kPanelGroups];  // the address of acc would keep it out of registers
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) sums[i][0] = acc[i][0], sums[i][1] = acc[i][1];
      finish_part<R>(y, a.y_stride, from == 0, sums, f, a.m - first_row, w.n - column);
    }
  }
}

template <class Dot>
void int8_any_tile(const LinearArgs& a, const Matrix& w, Index tile, Index column, Index begin, Index end,
                   const std::uint32_t* packed, const Int8Set& s, Index lane) {
  const std::uint32_t* x = packed + tile * packed_dwords<Dot>(a, w);
  const auto* scales = reinterpret_cast<const float*>(x + kTileRows * dwords_of<Dot>(a.k));
  const Index row = tile * tile_rows(a);
  switch (packed_height(a, tile)) {
    case 1:
      return int8_tile<Dot, 1>(a, w, row, column, begin, end, x, scales, s, lane);
    case 2:
      return int8_tile<Dot, 2>(a, w, row, column, begin, end, x, scales, s, lane);
    case 3:
      return int8_tile<Dot, 3>(a, w, row, column, begin, end, x, scales, s, lane);
    case 4:
      return int8_tile<Dot, 4>(a, w, row, column, begin, end, x, scales, s, lane);
    case 6:
      return int8_tile<Dot, 6>(a, w, row, column, begin, end, x, scales, s, lane);
    case 8:
      if constexpr (kTileRows > 6) return int8_tile<Dot, 8>(a, w, row, column, begin, end, x, scales, s, lane);
      break;
    default:
      if constexpr (kTileRows > 6) return int8_tile<Dot, 12>(a, w, row, column, begin, end, x, scales, s, lane);
  }
}

template <class Dot, class Weights>
void int8_multiply_by(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, void* memory) {
  const Matrix whole{a};
  Matrix w = whole;
  w.n = n_end;  // rows behind the piece are another's
  const Int8Set s(a, w, memory);
  for (Index row = n_begin; row < n_end; row += kPanelSetRows) {
    if (a.w_scale)
      fill_scales(a, whole, row, kPanelSetRows, unit<F32Step>(a), s.factors);
    else if (!Weights::kRounds)
      for (Index i = 0; i < w.blocks * kPanelSetRows; ++i) s.factors[i] = 1.0f;
    if (s.zeros) fill_zeros(a, whole, row, kPanelSetRows, s.zeros);
    const Index lanes = n_end - row < kPanelSetRows ? round_up(n_end - row, kPanelRows) : kPanelSetRows;
    for (Index begin = 0, end; begin < w.k; begin = end) {
      end = panel_end(w, begin);
      for (Index lane = 0; lane < lanes; lane += kLanes) fill_panel<Dot, Weights>(a, w, row, begin, end, lane, s);
      const Index next = end < w.k ? end : 0;
      NextPanels ahead(whole, end < w.k ? row : row + kPanelSetRows, next, panel_end(w, next), bits_of(a.w_dtype),
                       tiles_of(a) * (lanes / kPanelRows));
      for (Index lane = 0; lane < lanes; lane += kPanelRows)
        for (Index tile = 0; tile < tiles_of(a); ++tile) {
          ahead.ask();
          int8_any_tile<Dot>(a, w, tile, row + lane, begin, end, static_cast<const std::uint32_t*>(packed), s, lane);
        }
    }
  }
}

template <class Dot>
void int8_multiply_as(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void*, void* scratch) {
  switch (a.w_dtype) {
    case DType::kI8:
      return int8_multiply_by<Dot, Int8FromInt8>(a, packed, n_begin, n_end, scratch);
    case DType::kI32:
      return int8_multiply_by<Dot, Int8FromInt4>(a, packed, n_begin, n_end, scratch);
    case DType::kBF16:
      return int8_multiply_by<Dot, Int8FromBf16>(a, packed, n_begin, n_end, scratch);
    default:
      return int8_multiply_by<Dot, Int8FromE4m3>(a, packed, n_begin, n_end, scratch);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
