// The product of linear.h, written once for every instruction set. Included by one translation unit per set, after its
// vector header and decode.h; the anonymous namespace keeps the copies apart.
//
// Few rows, and in AVX-512 any number that meets grouped weights (is_direct): weights are decoded in registers and used
// at once, tile by tile of x; rows as stored are transposed chunk by chunk in the L1 cache first. Many rows otherwise:
// a panel of decoded weights, kPanelColumns of K by kLanes * 2 outputs, stays in the L2 cache while tiles of kTileRows
// rows pass over it.
#pragma once

#include <type_traits>

#include "hadal/kernels/cpu/decode.h"
#include "hadal/kernels/cpu/tiles.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr Index kScaleBlock = 128;
constexpr Index kChunkBytes = kLanes * 4;        // of each row, per transposition
constexpr Index kLine = 64;                      // of the caches
constexpr Index kStageBytes = 256;               // of each row, transposed before they are used
constexpr Index kSetRows = 64;                   // outputs of a small piece
constexpr Index kRowsAbreast = 4 * kLanes;       // of grouped weights: a set of few rows of x
constexpr Index kGroupBytes = kRowsAbreast * 4;  // a dword of each row of a group
constexpr Index kPanelSetRows = 128;             // outputs whose panels share a pass over x
constexpr Index kPanelColumns = 128;
constexpr Index kTilesBytes = 288 << 10;  // of packed x that sets of weights pass over while it is in the L2 cache

constexpr Index bits_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 32;
    case DType::kBF16:
    case DType::kF16:
      return 16;
    case DType::kI32:
      return 4;
    default:
      return 8;
  }
}

// Heights of tiles that exist; a tile with other heights is filled up with zero rows.
constexpr int kHeights[] = {1, 2, 3, 4, 6, 8, 12};

HADAL_INLINE int tile_height(Index rows) {
  for (int h : kHeights)
    if (h >= rows && h <= kTileRows) return h;
  return kTileRows;
}

// Whether weights are used as they are decoded, tile by tile of x. For many rows panels of decoded weights pay, unless
// decoding goes on beside the multiply-adds: with grouped rows and registers enough.
template <class Step>
HADAL_INLINE bool is_direct(const LinearArgs& a) {
  return a.m <= Step::kMostDirectRows || (kLanes == 16 && a.w_layout != Layout::kRows);
}

template <class Step = F32Step>
HADAL_INLINE Index tiles_of(const LinearArgs& a) {
  const Index most = is_direct<Step>(a) ? Step::kDirectTileRows : kTileRows;
  return (a.m + most - 1) / most;
}
// Rows a tile begins behind the one before: as alike as the heights allow (8 = 4 + 4, not 6 + 2).
template <class Step = F32Step>
HADAL_INLINE Index tile_rows(const LinearArgs& a) {
  return tile_height((a.m + tiles_of<Step>(a) - 1) / tiles_of<Step>(a));
}

// Rows of a tile as it is packed, zeros among them.
template <class Step = F32Step>
HADAL_INLINE int packed_height(const LinearArgs& a, Index tile) {
  const Index rows = tile_rows<Step>(a), left = a.m - tile * rows;
  return tile_height(left < rows ? left : rows);
}

// The weights as bytes, and how their sums are scaled.
struct Matrix {
  const std::uint8_t* base;
  Index row_bytes;   // from one row to the next
  Index used_bytes;  // of a row
  Index n, k;
  Index block;   // k per partial sum
  Index blocks;  // per row
  bool grouped;  // in the groups of this instruction set, which its table has checked

  HADAL_INLINE explicit Matrix(const LinearArgs& a)
      : base(static_cast<const std::uint8_t*>(a.w)), n(a.n), k(a.k), grouped(a.w_layout != Layout::kRows) {
    const Index bits = bits_of(a.w_dtype);
    row_bytes = a.w_dtype == DType::kI32 ? a.w_stride * 4 : a.w_stride * bits / 8;
    used_bytes = (a.k * bits + 7) / 8;
    block = a.w_scale && a.scale_columns < kScaleBlock ? a.scale_columns : kScaleBlock;
    blocks = (k + block - 1) / block;
  }
  // Grouped rows: where the dword at `byte` of rows [row, row + kLanes) begins; the next dword is kGroupBytes on.
  HADAL_INLINE const std::uint8_t* dwords(Index row, Index byte) const {
    return base + row / kRowsAbreast * kRowsAbreast * row_bytes + byte / 4 * kGroupBytes + row % kRowsAbreast * 4;
  }
};

// kLanes rows from `row` on (rows beyond the last repeat it), one chunk of each, as kLanes columns at out[i * stride].
// kCodes: the largest E4M3 magnitude of each byte's place goes to `codes`, so that NaN codes are noticed.
template <bool kCodes>
HADAL_INLINE void stage(const Matrix& w, Index row, Index byte, IVec* out, Index stride, IVec& codes) {
  IVec r[kLanes];
  const std::uint8_t* p = w.base + row * w.row_bytes + byte;
  if (w.grouped) {
    const Index left = (w.used_bytes - byte) / 4;
    for (int i = 0; i < kLanes; ++i)
      r[i] = i < left ? load_dwords(w.dwords(row, byte) + i * kGroupBytes) : all_dwords(0);
  } else if (row + kLanes <= w.n && byte + kChunkBytes <= w.used_bytes) {
    load_transposed(p, w.row_bytes, r);
  } else {
    const Index count = w.used_bytes - byte < kChunkBytes ? w.used_bytes - byte : kChunkBytes;
    for (int i = 0; i < kLanes; ++i) {
      const std::uint8_t* at = w.base + (row + i < w.n ? row + i : w.n - 1) * w.row_bytes + byte;
      r[i] = count < kChunkBytes ? load_first_bytes(at, count) : load_dwords(at);
    }
    transpose(r);
  }
  if constexpr (kCodes)
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) codes = max_bytes(codes, bit_and(r[i], all_dwords(0x7F7F7F7Fu)));
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store_dwords(out + i * stride, r[i]);
}

HADAL_INLINE Index steps_of(const LinearArgs& a, Index columns_per_step) {
  return round_up(a.k, 32) / columns_per_step;  // whole dwords of every format
}

// What each block's sum is multiplied by, [blocks][set_rows], and for INT4 with zero points what is subtracted from
// codes - 8 first.
struct Factors {
  const float* scale;
  const float* zero;
  const std::uint8_t* later = nullptr;  // grouped scales of the set read next, [blocks][block_bytes]
  Index block_bytes = 0;

  HADAL_INLINE void ask_for_later(Index block) const {
    if (!later) return;
    for (Index byte = 0; byte < block_bytes; byte += kLine)
      __builtin_prefetch(later + block * block_bytes + byte, 0, 2);
  }
};

// Where the values of a grouped grid for rows from `row` on begin, all of one group; the next block's are kRowsAbreast
// on.
HADAL_INLINE Index in_groups(const LinearArgs& a, Index row) {
  const Index r = a.w_first_row + row;
  return r / kRowsAbreast * kRowsAbreast * a.w_scale_stride + r % kRowsAbreast;
}

HADAL_INLINE float scale_at(const LinearArgs& a, Index row, Index group) {
  const Index i = (a.w_first_row + row) / a.scale_rows * a.w_scale_stride + group;
  switch (a.w_scale_dtype) {
    case DType::kBF16:
      return bf16_to_float(static_cast<const bf16*>(a.w_scale)[i]);
    case DType::kF16:
      return f16_to_float(static_cast<const f16*>(a.w_scale)[i]);
    default:
      return static_cast<const float*>(a.w_scale)[i];
  }
}

// Zero points above 8.
struct ZeroPoints {
  static constexpr int kSteps = 4, kColumns = 4;
  template <int kStep>
  HADAL_INLINE static IVec step(IVec v, Vec) {
    return as_int(to_float(add_dwords(bit_and(right<8 * kStep>(v), all_dwords(0xFF)), all_dwords(~7u))));
  }
};

// Values of the grid of scales or zero points for kLanes rows, each its own, by transposing chunks of it.
template <class Values>
void lane_values(const LinearArgs& a, const void* values, Index row, Index blocks, float* to, Index stride) {
  constexpr Index kBytes = 4 / Values::kColumns;
  Matrix grid{a};
  grid.grouped = false;
  grid.row_bytes = a.w_scale_stride * kBytes;
  grid.base = static_cast<const std::uint8_t*>(values) + a.w_first_row * grid.row_bytes;
  grid.used_bytes = blocks * kBytes;
  // Whole chunks are faster, and what is too much of them does no harm where rows enough follow.
  if ((a.n - row - kLanes) * grid.row_bytes >= kChunkBytes) grid.used_bytes = round_up(grid.used_bytes, kChunkBytes);
  IVec columns[kLanes], unused;
  for (Index byte = 0, block = 0; block < blocks; byte += kChunkBytes) {
    stage<false>(grid, row, byte, columns, 1, unused);
    for (int c = 0; c < kLanes && block < blocks; ++c) {
      IVec w[Values::kSteps];
      decode<Values>(columns[c], zero(), w);
      for (int s = 0; s < Values::kSteps && block < blocks; ++s, ++block) store(to + block * stride, as_float(w[s]));
    }
  }
}

// The power of two that E4M3 sums lack, half of it taken from x and half from the scale.
template <class Step>
HADAL_INLINE float unit(const LinearArgs& a) {
  return a.w_dtype == DType::kF8E4M3 ? Step::kE4m3Unit : 1.0f;
}

// Grouped ones, in order.
template <class T>
HADAL_INLINE void read_scales(const LinearArgs& a, const Matrix& w, Index row, Index set_rows, float unit, float* to) {
  for (Index g = 0; g < set_rows && row + g < w.n; g += kLanes) {
    const T* from = static_cast<const T*>(a.w_scale) + in_groups(a, row + g);
    for (Index b = 0; b < w.blocks; ++b)
      store(to + b * set_rows + g, mul(load_row(from + b * kRowsAbreast), broadcast(unit)));
  }
}

void fill_scales(const LinearArgs& a, const Matrix& w, Index row, Index set_rows, float unit, float* to) {
  if (a.w_scale_layout != Layout::kRows) {
    if (a.w_scale_dtype == DType::kF32) return read_scales<float>(a, w, row, set_rows, unit, to);
    if (a.w_scale_dtype == DType::kBF16) return read_scales<bf16>(a, w, row, set_rows, unit, to);
    return read_scales<f16>(a, w, row, set_rows, unit, to);
  }
  const Index final_row = row + set_rows <= w.n ? row + set_rows - 1 : w.n - 1;
  if ((a.w_first_row + row) / a.scale_rows == (a.w_first_row + final_row) / a.scale_rows &&
      a.scale_columns == w.block && a.w_scale_dtype == DType::kF32) {
    const float* scale = static_cast<const float*>(a.w_scale) + (a.w_first_row + row) / a.scale_rows * a.w_scale_stride;
    for (Index b = 0; b < w.blocks; ++b)
      for (Index g = 0; g < set_rows; g += kLanes) store(to + b * set_rows + g, broadcast(scale[b] * unit));
    return;
  }
  for (Index g = 0; g < set_rows; g += kLanes) {
    const Index first = row + g < w.n ? row + g : w.n - 1,
                last = row + g + kLanes <= w.n ? row + g + kLanes - 1 : w.n - 1;
    const bool shared = (a.w_first_row + first) / a.scale_rows == (a.w_first_row + last) / a.scale_rows;
    if (shared || a.scale_columns >= a.k) {
      float lanes[kLanes];
      for (Index b = 0; b < w.blocks; ++b) {
        const Index group = b * w.block / a.scale_columns;
        if (shared)
          store(to + b * set_rows + g, broadcast(scale_at(a, first, group) * unit));
        else if (b == 0)
          for (int i = 0; i < kLanes; ++i) lanes[i] = scale_at(a, first + i < last ? first + i : last, 0) * unit;
        if (!shared) store(to + b * set_rows + g, load(lanes));
      }
    } else if (a.scale_rows == 1 && a.scale_columns == w.block) {
      if (a.w_scale_dtype == DType::kF32)
        lane_values<F32Weights>(a, a.w_scale, first, w.blocks, to + g, set_rows);
      else if (a.w_scale_dtype == DType::kBF16)
        lane_values<Bf16Weights>(a, a.w_scale, first, w.blocks, to + g, set_rows);
      else
        lane_values<F16Weights>(a, a.w_scale, first, w.blocks, to + g, set_rows);
    } else {
      for (Index b = 0; b < w.blocks; ++b)
        for (int i = 0; i < kLanes; ++i)
          to[b * set_rows + g + i] =
              scale_at(a, first + i < last ? first + i : last, b * w.block / a.scale_columns) * unit;
    }
  }
}

void fill_zeros(const LinearArgs& a, const Matrix& w, Index row, Index set_rows, float* to) {
  if (a.w_scale_layout != Layout::kRows) {
    for (Index g = 0; g < set_rows && row + g < w.n; g += kLanes) {
      const std::uint8_t* from = a.w_zero + in_groups(a, row + g);
      for (Index b = 0; b < w.blocks; ++b)
        store(to + b * set_rows + g, sub(to_float(load_row_bytes(from + b * kRowsAbreast)), broadcast(8)));
    }
    return;
  }
  if (a.scale_rows == 1 && a.scale_columns == w.block) {
    for (Index g = 0; g < set_rows; g += kLanes)
      lane_values<ZeroPoints>(a, a.w_zero, row + g < w.n ? row + g : w.n - 1, w.blocks, to + g, set_rows);
    return;
  }
  for (Index b = 0; b < w.blocks; ++b)
    for (Index i = 0; i < set_rows; ++i) {
      const Index r = row + i < w.n ? row + i : w.n - 1;
      const std::uint8_t z =
          a.w_zero[(a.w_first_row + r) / a.scale_rows * a.w_scale_stride + b * w.block / a.scale_columns];
      to[b * set_rows + i] = static_cast<float>(z) - 8.0f;
    }
}

// Factors of a set of few rows of x, which never leaves its group: in `room`, or where they lie as they are wanted.
HADAL_INLINE Factors factors_of(const LinearArgs& a, const Matrix& w, Index row, Index set_rows, float unit,
                                float* scale_room, float* zero_room) {
  Factors f{scale_room, zero_room};
  if (zero_room) fill_zeros(a, w, row, set_rows, zero_room);
  if (!scale_room) return f;
  if (a.w_scale_layout == Layout::kRows) {
    fill_scales(a, w, row, set_rows, unit, scale_room);
    return f;
  }
  const Index value_bytes = bits_of(a.w_scale_dtype) / 8, at = in_groups(a, row);
  const auto* mine = static_cast<const std::uint8_t*>(a.w_scale) + at * value_bytes;
  if (set_rows == kRowsAbreast && a.w_scale_dtype == DType::kF32 && unit == 1.0f)
    f.scale = reinterpret_cast<const float*>(mine);
  else
    fill_scales(a, w, row, set_rows, unit, scale_room);
  if (at % kRowsAbreast == 0) {
    f.block_bytes = kRowsAbreast * value_bytes;
    f.later = mine + w.blocks * f.block_bytes;
  }
  return f;
}

// total += block sums * factors, for one tile of G groups by R rows, of which `rows` exist.
template <class Step, int G, int R>
HADAL_INLINE void fold(const typename Step::Acc (&acc)[R][G], const float* factor, const float* row_scale,
                       Index row_scale_stride, Index rows, Vec (&total)[R][G]) {
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      if (!factor && !row_scale) {
        total[i][g] = add(total[i][g], Step::sum(acc[i][g]));
        continue;
      }
      Vec f = factor ? load(factor + g * kLanes) : broadcast(1);
      if (row_scale) f = mul(f, broadcast(row_scale[(i < rows ? i : rows - 1) * row_scale_stride]));
      total[i][g] = fma(Step::sum(acc[i][g]), f, total[i][g]);
    }
}

template <int kCount>
HADAL_INLINE void ask_for(const std::uint8_t*& lines) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) __builtin_prefetch(lines + i * kLine);
  lines += kCount * kLine;
}

// How far ahead grouped rows are asked for: about as far as a core reads while memory answers, measured. In
// AVX2 whole blocks of 8-bit codes, as loops in assembly look only once a block where the set ends.
template <class Weights>
constexpr Index kBytesAhead = kLanes == 8 ? 12288 : 6144;

// Where direct_set finds the dwords of its rows, column by column: in the weights themselves if those are grouped (a
// set never leaves its group), in the stage otherwise.
template <class Weights, int G>
struct Dwords {
  static_assert(kRowsAbreast % (G * kLanes) == 0 && kGroupRows % kRowsAbreast == 0);
  const std::uint8_t* of = nullptr;
  const std::uint8_t* end = nullptr;  // grouped: of the set,
  Index jump = 0;                     // and from there to what is read after it
  Index column_bytes = 0;

  HADAL_INLINE IVec at(int g, Index c) const { return load_dwords(of + c * column_bytes + g * kLanes * 4); }
  // From column c on to what is read kBytesAhead later.
  HADAL_INLINE Index distance(Index c) const {
    return kBytesAhead<Weights> + (of + c * kGroupBytes + kBytesAhead<Weights> >= end ? jump : 0);
  }
  HADAL_INLINE void ask_for_later(Index c) const {
    const std::uint8_t* later = of + c * kGroupBytes + distance(c);
#pragma GCC unroll 8
    for (int line = 0; line < G * kLanes * 4 / kLine; ++line) __builtin_prefetch(later + line * kLine, 0, 2);
  }
  // `ahead` is where the set after this one begins.
  HADAL_INLINE void point_to(const Matrix& w, Index row, Index byte, const std::uint8_t* ahead) {
    column_bytes = kGroupBytes;
    of = w.dwords(row, byte);
    end = w.dwords(row, w.used_bytes);
    jump = ahead - end;
  }
  HADAL_INLINE void point_to(const IVec (&staged)[G]) {
    column_bytes = sizeof(staged);
    of = reinterpret_cast<const std::uint8_t*>(&staged[0]);
  }
};

// Steps kStep and on of one column of dwords, for the rows of a tile and all groups of a set: an x that is loaded
// serves all groups, and no more than one step's weights are in registers; with few registers, one group's.
template <class Step, class Weights, int kStep, int G, int R>
HADAL_INLINE void steps_of_column(const IVec (&dword)[G], const Vec (&zeros)[G], const std::uint32_t* x,
                                  typename Step::Acc (&acc)[R][G]) {
  if constexpr (kLanes == 8 && R <= 2) {
    typename Step::X xs[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) xs[i] = Step::x(x + (kStep * R + i) * Step::kXDwords);
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) {
      const IVec w = Weights::template step<kStep>(dword[g], zeros[g]);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) acc[i][g] = Step::mac(acc[i][g], xs[i], w);
    }
  } else {
    IVec w[G];
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) w[g] = Weights::template step<kStep>(dword[g], zeros[g]);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const typename Step::X xs = Step::x(x + (kStep * R + i) * Step::kXDwords);
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) acc[i][g] = Step::mac(acc[i][g], xs, w[g]);
      Step::row_done(acc[i]);
    }
  }
  if constexpr (kStep + 1 < Weights::kSteps) steps_of_column<Step, Weights, kStep + 1>(dword, zeros, x, acc);
}

// The steps that one column of dwords gives, for all groups of a set.
template <class Step, class Weights, int G, int R>
HADAL_INLINE void column_of_sums(const Matrix& w, const Dwords<Weights, G>& dwords, Index c, const std::uint32_t* x,
                                 const float* zeros, IVec (&codes)[G], typename Step::Acc (&acc)[R][G]) {
  IVec dword[G];
  Vec z[G];
#pragma GCC unroll 8
  for (int g = 0; g < G; ++g) {
    dword[g] = dwords.at(g, c);
    z[g] = zeros ? load(zeros + g * kLanes) : zero();
    if constexpr (Weights::kHasNan)
      if (w.grouped) codes[g] = max_bytes(codes[g], bit_and(dword[g], all_dwords(0x7F7F7F7Fu)));
  }
  if constexpr (G == kPanelGroups || kLanes == 16 || R <= 2) return steps_of_column<Step, Weights, 0>(dword, z, x, acc);
#pragma GCC unroll 8
  for (int g = 0; g < G; ++g) {
    IVec v[Weights::kSteps];
    decode<Weights>(dword[g], z[g], v);
#pragma GCC unroll 8
    for (int s = 0; s < Weights::kSteps; ++s)
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) acc[i][g] = Step::mac(acc[i][g], Step::x(x + (s * R + i) * Step::kXDwords), v[s]);
  }
}

// Where there is a loop in assembly for grouped weights.
template <class Step, class Weights, int R>
constexpr bool kHasLoop = kLoopRows > 0 && R <= 4 && (std::is_same_v<Step, F32Step>) &&
                          (std::is_same_v<Weights, Clean<E4m3Weights>>);

// Outputs [row, row + G * kLanes) of one tile of R rows, straight from the stored weights; true if no NaN code was met.
template <class Step, class Weights, int G, int R>
bool direct_set(const LinearArgs& a, const Matrix& w, Index row, Index first_row, const std::uint32_t* x,
                const Factors& factors, const std::uint8_t* ahead) {
  constexpr Index kStageColumns = kStageBytes / 4 * Weights::kColumns;
  // Rows that are transposed: half of the lines ahead are asked for then, half while they are multiplied.
  constexpr int kStageLines = kChunkBytes * kLanes / kLine / 2, kLines = G * kLanes * 4 / kLine / 2;
  alignas(64) IVec staged[kStageBytes / 4][G];
  Dwords<Weights, G> dwords;
  Vec total[R][G];
  IVec codes[G];
  for (auto& t : total)
    for (Vec& v : t) v = zero();
  for (IVec& c : codes) c = all_dwords(0);
  typename Step::Acc acc[R][G];
  const std::uint32_t* of_block = x + steps_of(a, Step::kColumns) * R * Step::kXDwords;
  for (Index block = 0, column = 0; block < w.blocks; ++block) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g)
        acc[i][g] = Step::template start<Weights>(of_block + i * Step::kBlockDwords,
                                                  factors.zero ? factors.zero + (block * G + g) * kLanes : nullptr);
    const Index end = (block + 1) * w.block < w.k ? (block + 1) * w.block : w.k;
    if constexpr (kHasLoop<Step, Weights, R>)
      if (w.grouped) {
        dwords.point_to(w, row, column, ahead);
        const Index count = (end - column + 3) / 4;
        if constexpr (R == 1) {
          sum_e4m3_dwords(dwords.of, x, dwords.distance(0), count, acc[0]);
        } else {
          for (int g = 0; g < G; g += 2) {
            Vec sums[R][2];
            sum_e4m3_rows<R>(dwords.of + g * kLanes * 4, x, dwords.distance(0), count, sums);
#pragma GCC unroll 4
            for (int i = 0; i < R; ++i) acc[i][g] = sums[i][0], acc[i][g + 1] = sums[i][1];
          }
        }
        x += count * 4 * R;
        column = end;
      }
    while (column < end) {
      const Index in_stage = column % kStageColumns, stage_begin = column - in_stage;
      if (in_stage == 0) {
        const Index byte = column * bits_of(a.w_dtype) / 8;
        if (w.grouped) {
          dwords.point_to(w, row, byte, ahead);
        } else {
          dwords.point_to(staged[0]);
          for (int g = 0; g < G; ++g)
            for (Index b = 0; b < kStageBytes && byte + b < w.used_bytes; b += kChunkBytes) {
              stage<Weights::kHasNan>(w, row + g * kLanes, byte + b, &staged[b / 4][g], G, codes[g]);
              ask_for<kStageLines>(ahead);
            }
        }
      }
      const Index stop = stage_begin + kStageColumns < end ? stage_begin + kStageColumns : end;
      const int last = static_cast<int>((stop - stage_begin + Weights::kColumns - 1) / Weights::kColumns);
      for (int c = static_cast<int>(in_stage / Weights::kColumns); c < last; ++c) {
        column_of_sums<Step, Weights>(w, dwords, c, x, factors.zero ? factors.zero + block * G * kLanes : nullptr,
                                      codes, acc);
        x += Weights::kSteps * R * Step::kXDwords;
        if (w.grouped)
          dwords.ask_for_later(c);
        else if (kLines > 0)
          ask_for<kLines>(ahead);
        else if (c % 2)
          ask_for<1>(ahead);
      }
      column = stop;
    }
    factors.ask_for_later(block);
    const float* factor = factors.scale ? factors.scale + block * G * kLanes : nullptr;
    if constexpr (Step::kBlockDwords > 0)
      fold<Step, G, R>(acc, factor, Step::x_scales(of_block), Step::kBlockDwords, R, total);
    else
      fold<Step, G, R>(acc, factor, a.x_scale ? a.x_scale + first_row * a.x_scale_stride + block : nullptr,
                       a.x_scale_stride, a.m - first_row, total);
    of_block += R * Step::kBlockDwords;
  }
  for (Index i = 0; i < R && first_row + i < a.m; ++i)
    for (int g = 0; g < G; ++g) {
      const Vec y = Weights::kHasNan ? poison(total[i][g], codes[g]) : total[i][g];
      float* to = a.y + (first_row + i) * a.y_stride + row + g * kLanes;
      const Index room = w.n - row - g * kLanes;
      if (room >= kLanes)
        store(to, y);
      else if (room > 0)
        store_first(to, y, room);
    }
  bool clean = true;
  if constexpr (Weights::kHasNan)
    for (const IVec& c : codes) clean = clean && !any_byte_7f(c);
  return clean;
}

// Groups worked on together, for tiles of `rows`: enough independent chains, and sums that fit into the registers.
template <class Step>
constexpr int set_groups(int rows) {
  return rows <= Step::kMostWideRows ? 4 : kPanelGroups;
}

// Packed x of a tile, steps and then what there is by blocks.
template <class Step>
HADAL_INLINE Index tile_dwords(const LinearArgs& a, const Matrix& w) {
  return Step::kPackedRows * (steps_of(a, Step::kColumns) * Step::kXDwords + w.blocks * Step::kBlockDwords);
}

struct Scratch {
  float *scale, *zero;  // room for factors
  std::uint32_t* panel;
};

HADAL_INLINE Scratch cut_scratch(const LinearArgs& a, const Matrix& w, void* memory) {
  float* at = static_cast<float*>(memory);
  Scratch s{};
  if (a.w_scale) s.scale = at, at += w.blocks * kPanelSetRows;
  if (a.w_zero) s.zero = at, at += w.blocks * kPanelSetRows;
  s.panel = reinterpret_cast<std::uint32_t*>(at);
  return s;
}

// What is known of rows [row, end): LinearArgs::w_clean.
constexpr Index kCleanRows = 32;
HADAL_INLINE bool known_clean(const LinearArgs& a, Index row, Index end) {
  if (!a.w_clean) return false;
  for (Index i = (a.w_first_row + row) / kCleanRows; i * kCleanRows < a.w_first_row + end; ++i)
    if (!__atomic_load_n(a.w_clean + i, __ATOMIC_RELAXED)) return false;
  return true;
}
HADAL_INLINE void note_clean(const LinearArgs& a, Index row, Index end) {
  if (!a.w_clean) return;
  const Index first = (a.w_first_row + row + kCleanRows - 1) / kCleanRows, last = (a.w_first_row + end) / kCleanRows;
  for (Index i = first; i < last; ++i) __atomic_store_n(a.w_clean + i, std::uint8_t{1}, __ATOMIC_RELAXED);
}

// Outputs [n_begin, n_end) of tiles [tile_begin, tile_end), set by set.
template <class Step, class Weights, int R>
void direct_tiles(const LinearArgs& a, const Matrix& w, const std::uint32_t* x, Index n_begin, Index n_end,
                  Index tile_begin, Index tile_end, const void* next, const Scratch& s) {
  constexpr int G = set_groups<Step>(R);
  Matrix cut = w;
  cut.n = n_end;  // rows behind the piece are another's
  const Index dwords = tile_dwords<Step>(a, w), height = tile_rows<Step>(a);
  for (Index row = n_begin; row < n_end; row += G * kLanes) {
    const Index then = row + G * kLanes;
    const std::uint8_t* ahead = w.grouped ? w.dwords(then, 0) : w.base + then * w.row_bytes;
    if (next && row + G * kLanes >= n_end) ahead = static_cast<const std::uint8_t*>(next);
    const Factors factors = factors_of(a, w, row, G * kLanes, unit<Step>(a), s.scale, s.zero);
    const Index end = row + G * kLanes < n_end ? row + G * kLanes : n_end;
    for (Index tile = tile_begin; tile < tile_end; ++tile) {
      const std::uint32_t* from = x + tile * dwords;
      if constexpr (Weights::kHasNan)
        if (known_clean(a, row, end)) {
          direct_set<Step, Clean<Weights>, G, R>(a, cut, row, tile * height, from, factors, ahead);
          continue;
        }
      if (direct_set<Step, Weights, G, R>(a, cut, row, tile * height, from, factors, ahead) && Weights::kHasNan)
        note_clean(a, row, end);
    }
  }
}

// run(std::integral_constant<int, height>), for heights of tiles up to kMost: 4, 6 or 12.
template <int kMost, class F>
HADAL_INLINE void with_tile_height(int height, const F& run) {
  switch (height) {
    case 1:
      return run(std::integral_constant<int, 1>{});
    case 2:
      return run(std::integral_constant<int, 2>{});
    case 3:
      return run(std::integral_constant<int, 3>{});
    case 4:
      return run(std::integral_constant<int, 4>{});
  }
  if constexpr (kMost == 6) return run(std::integral_constant<int, 6>{});
  if constexpr (kMost > 6) switch (height) {
      case 6:
        return run(std::integral_constant<int, 6>{});
      case 8:
        return run(std::integral_constant<int, 8>{});
      default:
        return run(std::integral_constant<int, 12>{});
    }
}

// The same for tiles of a height known at run time.
template <class Step, class Weights>
void direct_tiles_of(int height, const LinearArgs& a, const Matrix& w, const std::uint32_t* x, Index n_begin,
                     Index n_end, Index tile_begin, Index tile_end, const void* next, const Scratch& s) {
  const auto run = [&]<int R>(std::integral_constant<int, R>) {
    direct_tiles<Step, Weights, R>(a, w, x, n_begin, n_end, tile_begin, tile_end, next, s);
  };
  with_tile_height<Step::kDirectTileRows>(height, run);
}

template <class Step, class Weights>
void direct(const LinearArgs& a, const Matrix& w, const std::uint32_t* x, Index n_begin, Index n_end, const void* next,
            const Scratch& s) {
  // So many tiles at a time that they stay in the L2 cache, beside the weights; the last one may be a lower one.
  const Index tiles = tiles_of<Step>(a), full = a.m / tile_rows<Step>(a);
  const Index tile_bytes = tile_dwords<Step>(a, w) * 4;
  const Index together = tile_bytes < kTilesBytes ? kTilesBytes / tile_bytes : 1;
  for (Index tile = 0; tile < full; tile += together)
    direct_tiles_of<Step, Weights>(packed_height<Step>(a, tile), a, w, x, n_begin, n_end, tile,
                                   tile + together < full ? tile + together : full, next, s);
  if (full < tiles)
    direct_tiles_of<Step, Weights>(packed_height<Step>(a, full), a, w, x, n_begin, n_end, full, tiles, next, s);
}

// Rows of `height` lanes one behind the other: column c of [begin, end). Whole vectors are stored as long as the
// columns that follow overwrite what is too much; masked stores are slow on some processors.
HADAL_INLINE void store_column(float* to, Vec v, Index c, Index end, int height) {
  if ((end - c) * height >= kLanes)
    store(to + c * height, v);
  else
    store_first(to + c * height, v, height);
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA

#include "hadal/kernels/cpu/panels_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

// LinearKernels::group_rows. Stored past the caches: nobody reads it soon.
[[maybe_unused]] void group_rows(const LinearArgs& a, Index n_begin, Index n_end, void* memory) {
  constexpr int kVectors = kRowsAbreast / kLanes, kCleanVectors = kCleanRows / kLanes;
  Matrix w{a};
  w.grouped = false;
  auto* to = static_cast<std::uint8_t*>(memory);
  alignas(64) IVec staged[kLanes][kVectors];
  for (Index row = n_begin; row < n_end; row += kRowsAbreast) {
    IVec codes[kVectors / kCleanVectors];
    for (IVec& c : codes) c = all_dwords(0);
    for (Index byte = 0; byte < w.used_bytes; byte += kChunkBytes) {
      for (int v = 0; v < kVectors; ++v)
        stage<true>(w, row + v * kLanes, byte, &staged[0][v], kVectors, codes[v / kCleanVectors]);
      const Index count = w.used_bytes - byte < kChunkBytes ? w.used_bytes - byte : kChunkBytes;
      for (Index c = 0; c < count / 4; ++c)
        for (int v = 0; v < kVectors; ++v, to += sizeof(IVec)) stream_dwords(to, staged[c][v]);
    }
    for (int i = 0; i < kRowsAbreast / kCleanRows && a.w_dtype == DType::kF8E4M3; ++i)
      if (!any_byte_7f(codes[i])) note_clean(a, row + i * kCleanRows, row + (i + 1) * kCleanRows);
  }
  stream_end();
}

template <class Step, class Weights>
void multiply_as(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next, void* memory) {
  const Matrix w{a};
  const Scratch s = cut_scratch(a, w, memory);
  const auto* x = static_cast<const std::uint32_t*>(packed);
  if (is_direct<Step>(a))
    direct<Step, Weights>(a, w, x, n_begin, n_end, next, s);
  else
    through_panels<Step, Weights>(a, w, x, n_begin, n_end, s);
}

HADAL_INLINE const float* input_row(const LinearArgs& a, Index row) {
  return a.x + (a.x_rows ? a.x_rows[row] : row) * a.x_stride;
}

[[maybe_unused]] Index packed_bytes_f32(const LinearArgs& a) {
  // The last vector stored of a tile may reach beyond it.
  return (tiles_of(a) * tile_dwords<F32Step>(a, Matrix{a}) + kLanes) * 4;
}
[[maybe_unused]] Index scratch_bytes(const LinearArgs& a) {
  const Matrix w{a};
  return (2 * w.blocks * kPanelSetRows + panel_scratch_dwords(a) + kLanes) * 4;
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
