// The product of linear.h with x rounded to int8, written once for every instruction set. Included like linear_impl.h,
// after int8_codes.h.
//
// Weights in INT8 and INT4 are exact; those in E4M3 and BF16 are rounded as x is (int8_pack.h), per output and block.
// The sum of a block is an exact integer, so instruction sets only agree by writing the end identically:
//   total = fma(float(sum), (stored scale * weight's scale) * x's scale, total), blocks ascending, from zero.
//
// Few rows meet codes as they lie (int8_direct.h). Otherwise weights go through a panel: sets of kPanelSetRows
// outputs, up to kInt8PanelColumns of K, [steps][kPanelGroups * kLanes] dwords.
#pragma once

#include <type_traits>

#include "hadal/kernels/cpu/int8_direct.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr Index kPanelRows = kPanelGroups * kLanes;
constexpr Index kInt8PanelColumns = 256;
constexpr Index kMostBlocks = kInt8PanelColumns / 32;  // of a panel

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
  return ((2 * Matrix{a}.blocks + kMostBlocks) * kPanelSetRows + dwords_of<Dot>(kInt8PanelColumns) * kPanelSetRows) * 4;
}

// Whole blocks, so that a block's codes are rounded and summed within one panel.
HADAL_INLINE Index panel_end(const Matrix& w, Index begin) {
  const Index end = begin + kInt8PanelColumns / w.block * w.block;
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
  constexpr Index kBytes = kInt8PanelColumns * 4 / Weights::kColumns;
  alignas(64) IVec staged[kBytes / 4];
  const Index first = begin * 4 / Weights::kColumns;
  const Index from_row = row + lane < w.n ? row + lane : w.n - 1;
  const Index width = ((end - begin) * 4 + Weights::kColumns - 1) / Weights::kColumns;
  IVec unused;
  for (Index byte = 0; byte < width; byte += kChunkBytes)
    stage<false>(w, from_row, first + byte, staged + byte / 4, 1, unused);
  std::uint32_t* to = s.panel + lane / kPanelRows * kPanelRows * dwords_of<Dot>(kInt8PanelColumns) + lane % kPanelRows;
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
    const float* above = s.zeros ? s.zeros + block * kPanelSetRows + lane : nullptr;
    const IVec zeros = Dot::kOffset ? zero_words(above) : zero_bytes(above);
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
        if constexpr (Dot::kOffset)
#pragma GCC unroll 2
          for (IVec& v : operand) v = Dot::less(v, zeros);
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

// acc = a tile's products with a panel over `steps`, both moved on; `ahead`, the next tile, is asked for meanwhile.
template <class Dot, int R>
HADAL_INLINE void sum_int8_steps(const std::uint32_t*& x, const std::uint32_t*& panel, const std::uint32_t*& ahead,
                                 Index steps, const std::int32_t* starts, IVec (&acc)[R][kPanelGroups]) {
  bool begun = false;
  if constexpr (R == kLoopRows && std::is_same_v<Dot, WordDot>) {
    begun = steps >= kLoopSteps;
    if (begun) sum_word_steps_of_six(x, panel, ahead, steps / kLoopSteps, acc);
    steps %= kLoopSteps;
  }
  if (!begun)
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int g = 0; g < kPanelGroups; ++g)
        acc[i][g] = Dot::kStarts ? load_dwords(starts + g * kLanes) : all_dwords(0);
  for (; steps > 0; --steps) {
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
}

// R rows by kPanelRows outputs over columns [begin, end), one panel. x and x_scale are the tile's. Not inlined: among
// its callers' loops the sums would not all be in registers.
template <class Dot, int R>
[[gnu::noinline]] void int8_tile(const LinearArgs& a, const Matrix& w, Index first_row, Index column, Index begin,
                                 Index end, const std::uint32_t* x, const float* x_scale, const Int8Set& s,
                                 Index lane) {
  const std::uint32_t* panel = s.panel + lane * dwords_of<Dot>(kInt8PanelColumns);
  const bool whole = first_row + R <= a.m && column + kPanelRows <= w.n;
  x += dwords_of<Dot>(begin) * R;
  const std::uint32_t* ahead = x + packed_dwords<Dot>(a, w);
  for (Index from = begin; from < end; from += w.block) {
    const Index to = from + w.block < end ? from + w.block : end, block = from / w.block;
    IVec acc[R][kPanelGroups];
    sum_int8_steps<Dot, R>(x, panel, ahead, dwords_of<Dot>(to - from),
                           s.starts + (from - begin) / w.block * kPanelSetRows + lane, acc);
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
  with_tile_height<kTileRows>(packed_height(a, tile), [&]<int R>(std::integral_constant<int, R>) {
    int8_tile<Dot, R>(a, w, row, column, begin, end, x, scales, s, lane);
  });
}

template <class Dot, class Weights>
void int8_multiply_by(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next,
                      void* memory) {
  const Matrix whole{a};
  if constexpr (!Weights::kRounds)
    if (meets_int8_directly(a, whole)) return int8_direct<Dot, Weights>(a, whole, packed, n_begin, n_end, next, memory);
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
      const Index then = end < w.k ? end : 0;
      NextPanels ahead(whole, end < w.k ? row : row + kPanelSetRows, then, panel_end(w, then), bits_of(a.w_dtype),
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
void int8_multiply_as(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next,
                      void* scratch) {
  switch (a.w_dtype) {
    case DType::kI8:
      return int8_multiply_by<Dot, Int8FromInt8>(a, packed, n_begin, n_end, next, scratch);
    case DType::kI32:
      return int8_multiply_by<Dot, Int8FromInt4>(a, packed, n_begin, n_end, next, scratch);
    case DType::kBF16:
      return int8_multiply_by<Dot, Int8FromBf16>(a, packed, n_begin, n_end, next, scratch);
    default:
      return int8_multiply_by<Dot, Int8FromE4m3>(a, packed, n_begin, n_end, next, scratch);
  }
}

// A group of outputs of round_rows; `to` is where it begins, and `scale`.
template <class Weights>
void round_group(const LinearArgs& a, const Matrix& w, Index row, std::uint8_t* to, float* scale) {
  alignas(64) IVec staged[kScaleBlock / Weights::kColumns];
  alignas(64) float lanes[kLanes];
  for (Index begin = 0, block = 0; begin < w.k; begin += kScaleBlock, ++block) {
    const Index columns = w.k - begin < kScaleBlock ? w.k - begin : kScaleBlock;
    const Index first = begin * 4 / Weights::kColumns, width = columns * 4 / Weights::kColumns;
    for (Index v = 0; v < kRowsAbreast; v += kLanes) {
      IVec unused;
      for (Index byte = 0; byte < width; byte += kChunkBytes)
        stage<false>(w, row + v, first + byte, staged + byte / 4, 1, unused);
      const int steps = static_cast<int>(columns / 4);
      const Rounding rounding(Weights::largest(staged, steps * Weights::kIn));
      store(lanes, rounding.to_values);
      for (Index i = 0; i < kLanes; ++i) {
        const float factor = a.w_scale ? scale_at(a, row + v + i, begin / a.scale_columns) * unit<F32Step>(a) : 1.0f;
        scale[block * kRowsAbreast + v + i] = a.w_scale ? factor * lanes[i] : lanes[i];
      }
      for (int i = 0; i < steps; ++i) {
        IVec codes[1];
        Weights::codes(staged + i * Weights::kIn, rounding.to_codes, unused, codes);
        stream_dwords(to + (begin / 4 + i) * kGroupBytes + v * 4, codes[0]);
      }
    }
  }
}

[[maybe_unused]] void round_rows_to_int8(const LinearArgs& a, Index n_begin, Index n_end, void* memory, float* scale) {
  Matrix w{a};
  w.grouped = false;
  auto* to = static_cast<std::uint8_t*>(memory);
  const Index blocks = (a.k + kScaleBlock - 1) / kScaleBlock;
  for (Index row = n_begin; row < n_end; row += kRowsAbreast, to += kRowsAbreast * a.k)
    if (a.w_dtype == DType::kBF16)
      round_group<Int8FromBf16>(a, w, row, to, scale + row * blocks);
    else
      round_group<Int8FromE4m3>(a, w, row, to, scale + row * blocks);
  stream_end();
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
