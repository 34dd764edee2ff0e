// Products of many rows of x: weights are decoded once for many tiles. Included by linear_impl.h.
//
// A panel, kPanelColumns of K by kPanelGroups vectors of outputs, stays in half of an L1 cache of 32 KiB while tiles of
// x pass over it, each asking for the lines of the next one. Panels of kPanelSetRows outputs are decoded together; with
// the same columns of so many rows of x, and the sums of those rows so far, they fill most of the L2 cache, whose size
// is read when the program starts. Sums are kept side by side until the last columns: rows of y may lie a power of two
// apart, and then a cache holds few of them.
#pragma once

#include "hadal/kernels/cache_sizes.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

// The stored weights of the next panels, asked for little by little while tiles pass over the present ones.
class NextPanels {
 public:
  // Columns [begin, end) of the rows of a set.
  HADAL_INLINE NextPanels(const Matrix& w, Index row, Index begin, Index end, Index bits, Index calls) {
    const Index together = w.grouped ? kRowsAbreast : 1;  // rows whose columns lie side by side
    at_ = w.base + row * w.row_bytes + begin * bits / 8 * together;
    row_bytes_ = w.row_bytes * together;
    lines_ = ((end - begin) * bits / 8 * together + kLine - 1) / kLine;
    left_ = row < w.n ? lines_ * (w.n - row < kPanelSetRows ? w.n - row : kPanelSetRows) / together : 0;
    per_call_ = (left_ + calls - 1) / calls;
  }
  HADAL_INLINE void ask() {
    for (Index i = 0; i < per_call_ && left_ > 0; ++i, --left_) {
      __builtin_prefetch(at_ + line_ * kLine, 0, 2);
      if (++line_ < lines_) continue;
      line_ = 0;
      at_ += row_bytes_;
    }
  }

 private:
  const std::uint8_t* at_;
  Index row_bytes_, lines_ = 0, left_ = 0, per_call_ = 0, line_ = 0;
};

// Columns [begin, end) of kPanelGroups groups of rows, decoded: [steps][kPanelGroups * kLanes].
template <class Weights>
void decode_grouped(const Matrix& w, Index row, Index begin, Index end, const float* zeros, std::uint32_t* panel,
                    IVec (&codes)[kPanelGroups]) {
  const std::uint8_t* from = w.dwords(row, begin * 4 / Weights::kColumns);
  for (Index column = begin; column < end; column += Weights::kColumns, from += kGroupBytes) {
#pragma GCC unroll 2
    for (int g = 0; g < kPanelGroups; ++g) {
      const IVec dwords = load_dwords(from + g * kLanes * 4);
      if constexpr (Weights::kHasNan) codes[g] = max_bytes(codes[g], bit_and(dwords, all_dwords(0x7F7F7F7Fu)));
      IVec v[Weights::kSteps];
      decode<Weights>(dwords, zeros ? load(zeros + column / w.block * kPanelSetRows + g * kLanes) : zero(), v);
#pragma GCC unroll 8
      for (int s = 0; s < Weights::kSteps; ++s) store_dwords(panel + (s * kPanelGroups + g) * kLanes, v[s]);
    }
    panel += Weights::kSteps * kPanelGroups * kLanes;
  }
}
template <class Weights>
void decode_stored(const Matrix& w, Index row, Index begin, Index end, const float* zeros, std::uint32_t* panel,
                   IVec (&codes)[kPanelGroups]) {
  constexpr Index kChunkColumns = kLanes * Weights::kColumns;
  alignas(64) IVec staged[kLanes];
  for (int g = 0; g < kPanelGroups; ++g) {
    std::uint32_t* to = panel + g * kLanes;
    for (Index column = begin; column < end; column += kChunkColumns) {
      const Index first = row + g * kLanes < w.n ? row + g * kLanes : w.n - 1;
      stage<Weights::kHasNan>(w, first, column * 4 / Weights::kColumns, staged, 1, codes[g]);
      const Index left_columns = end - column < kChunkColumns ? end - column : kChunkColumns;
      const int count = static_cast<int>((left_columns + Weights::kColumns - 1) / Weights::kColumns);
      for (int c = 0; c < count; ++c) {
        IVec v[Weights::kSteps];
        const Index block = (column + c * Weights::kColumns) / w.block;
        decode<Weights>(staged[c], zeros ? load(zeros + block * kPanelSetRows + g * kLanes) : zero(), v);
#pragma GCC unroll 8
        for (int s = 0; s < Weights::kSteps; ++s) {
          store_dwords(to, v[s]);
          to += kPanelGroups * kLanes;
        }
      }
    }
  }
}
template <class Weights>
HADAL_INLINE void decode_panel(const Matrix& w, Index row, Index begin, Index end, const float* zeros,
                               std::uint32_t* panel, IVec (&codes)[kPanelGroups]) {
  if (w.grouped)
    decode_grouped<Weights>(w, row, begin, end, zeros, panel, codes);
  else
    decode_stored<Weights>(w, row, begin, end, zeros, panel, codes);
}

// A panel as tiles meet it.
struct Panel {
  Index begin, end;            // columns of K
  Index column;                // its first output
  const std::uint32_t* codes;  // as decoded
  const float* factors;        // of its outputs, [blocks of it][kPanelSetRows], or nullptr
};

// A tile as it meets panels.
struct Tile {
  Index first_row;
  const std::uint32_t* x;     // packed, from column 0 on
  const std::uint32_t* next;  // the same of what is read after it
  float* sums;                // [R][kPanelGroups * kLanes] of the panel's outputs, so far
};

// acc = tile * panel over `steps`, and all three moved on; `ahead` is asked for at the pace of x.
template <class Step, int R>
HADAL_INLINE void sum_steps(const std::uint32_t*& x, const std::uint32_t*& panel, const std::uint32_t*& ahead,
                            Index steps, typename Step::Acc (&acc)[R][kPanelGroups]) {
  const auto clear = [](auto& sums) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) sums[i][0] = sums[i][1] = Step::zero_acc();
  };
  if constexpr (R == kLoopRows && std::is_same_v<Step, F32Step>) {
    if (steps >= kLoopSteps)
      sum_steps_of_six(x, panel, ahead, steps / kLoopSteps, acc);
    else
      clear(acc);
    steps %= kLoopSteps;
  } else {
    clear(acc);
  }
  for (; steps > 0; --steps) {
    const IVec w0 = load_dwords(panel), w1 = load_dwords(panel + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const typename Step::X xs = Step::x(x + i);
      acc[i][0] = Step::mac(acc[i][0], xs, w0);
      acc[i][1] = Step::mac(acc[i][1], xs, w1);
    }
    __builtin_prefetch(ahead);
    panel += kPanelGroups * kLanes;
    x += R;
    ahead += R;
  }
}

// R rows of two vectors, from + sums * factors (nullptr: from zero).
template <class Step, int R>
HADAL_INLINE void add_sums(const typename Step::Acc (&acc)[R][kPanelGroups], Vec f0, Vec f1, const float* from,
                           float* to, Index to_stride) {
  constexpr Index kStride = kPanelGroups * kLanes;
  if (from) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i, to += to_stride) {
      store(to, fma(Step::sum(acc[i][0]), f0, load(from + i * kStride)));
      store(to + kLanes, fma(Step::sum(acc[i][1]), f1, load(from + i * kStride + kLanes)));
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i, to += to_stride) {
      store(to, fma(Step::sum(acc[i][0]), f0, zero()));
      store(to + kLanes, fma(Step::sum(acc[i][1]), f1, zero()));
    }
  }
}

// One tile of R rows over one panel: the sums of its blocks, times their factors, added to the tile's sums; to `y` with
// the last columns, which is the sums' place too where it is not all there.
template <class Step, int R>
HADAL_INLINE void whole_panel_tile(const Matrix& w, const Panel& p, const Tile& t, float* y, Index y_stride) {
  constexpr Index kStride = kPanelGroups * kLanes;
  const std::uint32_t *x = t.x + p.begin / Step::kColumns * R, *panel = p.codes,
                      *ahead = t.next + p.begin / Step::kColumns * R;
  const float* factors = p.factors;
  for (Index from = p.begin; from < p.end; from += w.block) {
    const Index to = from + w.block < p.end ? from + w.block : p.end;
    typename Step::Acc acc[R][kPanelGroups];
    sum_steps<Step, R>(x, panel, ahead, (to - from + Step::kColumns - 1) / Step::kColumns, acc);
    Vec f0 = broadcast(1), f1 = f0;
    if (factors) f0 = load(factors), f1 = load(factors + kLanes), factors += kPanelSetRows;
    const bool last = to >= w.k;
    add_sums<Step, R>(acc, f0, f1, from > 0 ? t.sums : nullptr, last ? y : t.sums, last ? y_stride : kStride);
  }
}

// What R rows of y are once all columns are in: those of them that exist.
template <int R>
void store_part(const LinearArgs& a, Index first_row, Index column, Index room, const float* sums) {
  for (Index i = 0; i < R && first_row + i < a.m; ++i)
    for (Index g = 0; g < kPanelGroups && g * kLanes < room; ++g) {
      float* y = a.y + (first_row + i) * a.y_stride + column + g * kLanes;
      const Vec v = load(sums + (i * kPanelGroups + g) * kLanes);
      if (room - g * kLanes >= kLanes)
        store(y, v);
      else
        store_first(y, v, room - g * kLanes);
    }
}

// The same for a tile that lacks rows or outputs.
template <class Step, int R>
void part_panel_tile(const LinearArgs& a, const Matrix& w, const Panel& p, const Tile& t) {
  whole_panel_tile<Step, R>(w, p, t, t.sums, kPanelGroups * kLanes);
  if (p.end >= w.k) store_part<R>(a, t.first_row, p.column, w.n - p.column, t.sums);
}

// x with scales of its own (see LinearArgs::x_scale): each row's factors are different ones.
template <class Step, int R>
void scaled_panel_tile(const LinearArgs& a, const Matrix& w, const Panel& p, const Tile& t) {
  constexpr Index kStride = kPanelGroups * kLanes;
  const std::uint32_t *x = t.x + p.begin / Step::kColumns * R, *panel = p.codes,
                      *ahead = t.next + p.begin / Step::kColumns * R;
  const float* factors = p.factors;
  for (Index from = p.begin; from < p.end; from += w.block, factors += kPanelSetRows) {
    const Index to = from + w.block < p.end ? from + w.block : p.end, block = from / w.block;
    typename Step::Acc acc[R][kPanelGroups];
    sum_steps<Step, R>(x, panel, ahead, (to - from + Step::kColumns - 1) / Step::kColumns, acc);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Index row = t.first_row + i < a.m ? t.first_row + i : a.m - 1;
      const Vec r = broadcast(a.x_scale[row * a.x_scale_stride + block]);
#pragma GCC unroll 2
      for (int g = 0; g < kPanelGroups; ++g) {
        float* sum = t.sums + i * kStride + g * kLanes;
        store(sum, fma(Step::sum(acc[i][g]), mul(load(factors + g * kLanes), r), from > 0 ? load(sum) : zero()));
      }
    }
  }
  if (p.end >= w.k) store_part<R>(a, t.first_row, p.column, w.n - p.column, t.sums);
}

template <class Step, int R>
HADAL_INLINE void panel_tile(const LinearArgs& a, const Matrix& w, const Panel& p, const Tile& t) {
  if (a.x_scale) return scaled_panel_tile<Step, R>(a, w, p, t);
  if (a.m - t.first_row < R || w.n - p.column < kPanelGroups * kLanes) return part_panel_tile<Step, R>(a, w, p, t);
  whole_panel_tile<Step, R>(w, p, t, a.y + t.first_row * a.y_stride + p.column, a.y_stride);
}

template <class Step>
void any_panel_tile(int height, const LinearArgs& a, const Matrix& w, const Panel& p, const Tile& t) {
  with_tile_height<kTileRows>(height, [&]<int R>(std::integral_constant<int, R>) { panel_tile<Step, R>(a, w, p, t); });
}

// Tiles whose x and sums stay in the L2 cache, as alike as they can be.
HADAL_INLINE Index tiles_together(const LinearArgs& a) {
  constexpr Index kRowBytes = (kPanelColumns + kPanelSetRows) * 4;
  const Index most = cache_sizes().l2 / 2 / kRowBytes / kTileRows, tiles = tiles_of(a);
  if (tiles <= most || most < 1) return tiles;
  const Index parts = (tiles + most - 1) / most;
  return (tiles + parts - 1) / parts;
}

HADAL_INLINE Index panel_scratch_dwords(const LinearArgs& a) {
  return kPanelColumns * kPanelSetRows + tiles_together(a) * kTileRows * kPanelSetRows;
}

// Outputs [row, end) become NaN wherever their codes held one; true if some did.
template <class Weights>
bool poison_set(const LinearArgs& a, const Matrix& w, Index row, Index end, const IVec (*codes)[kPanelGroups]) {
  bool some = false;
  for (Index column = row, v = 0; column < end; column += kLanes, ++v) {
    const IVec& of_lanes = codes[v / kPanelGroups][v % kPanelGroups];
    if (!any_byte_7f(of_lanes)) continue;
    some = true;
    const Index room = w.n - column < kLanes ? w.n - column : kLanes;
    for (Index i = 0; i < a.m; ++i) {
      float* y = a.y + i * a.y_stride + column;
      store_first(y, poison(load_first(y, room), of_lanes), room);
    }
  }
  return some;
}

// Outputs [row, row + kPanelSetRows) of tiles [tile_begin, tile_end).
template <class Step, class Weights>
void panel_set(const LinearArgs& a, const Matrix& whole, const Matrix& w, const std::uint32_t* x, Index row,
               Index tile_begin, Index tile_end, const Scratch& s, bool clean, IVec (*codes)[kPanelGroups]) {
  constexpr Index kPanelRows = kPanelGroups * kLanes, kPanelDwords = kPanelColumns / Step::kColumns * kPanelRows;
  const Index steps = steps_of(a, Step::kColumns), tiles = tile_end - tile_begin, rows = tile_rows(a);
  const int height = packed_height(a, tile_begin), last_height = packed_height(a, tile_end - 1);
  const Index panels = (w.n - row < kPanelSetRows ? w.n - row + kPanelRows - 1 : kPanelSetRows) / kPanelRows;
  auto* sums = reinterpret_cast<float*>(s.panel + kPanelColumns * kPanelSetRows);
  for (Index begin = 0; begin < w.k; begin += kPanelColumns) {
    const Index end = begin + kPanelColumns < w.k ? begin + kPanelColumns : w.k;
    for (Index p = 0; p < panels; ++p) {
      const float* zeros = s.zero ? s.zero + p * kPanelRows : nullptr;
      if (clean)
        decode_panel<Clean<Weights>>(w, row + p * kPanelRows, begin, end, zeros, s.panel + p * kPanelDwords, codes[p]);
      else
        decode_panel<Weights>(w, row + p * kPanelRows, begin, end, zeros, s.panel + p * kPanelDwords, codes[p]);
    }
    const bool same_rows = end < w.k;
    const Index next_begin = same_rows ? end : 0;
    const Index next_end = next_begin + kPanelColumns < w.k ? next_begin + kPanelColumns : w.k;
    NextPanels ahead(whole, same_rows ? row : row + kPanelSetRows, next_begin, next_end, bits_of(a.w_dtype),
                     tiles * panels);
    for (Index p = 0; p < panels; ++p) {
      const Panel panel{begin, end, row + p * kPanelRows, s.panel + p * kPanelDwords,
                        s.scale ? s.scale + begin / w.block * kPanelSetRows + p * kPanelRows : nullptr};
      for (Index tile = tile_begin; tile < tile_end; ++tile) {
        ahead.ask();
        const Index next = tile + 1 < tile_end ? tile + 1 : tile_begin;
        const Tile t{tile * rows, x + tile * kTileRows * steps, x + next * kTileRows * steps,
                     sums + ((tile - tile_begin) * panels + p) * kTileRows * kPanelRows};
        any_panel_tile<Step>(tile + 1 < tile_end ? height : last_height, a, w, panel, t);
      }
    }
  }
}

template <class Step, class Weights>
void through_panels(const LinearArgs& a, const Matrix& whole, const std::uint32_t* x, Index n_begin, Index n_end,
                    const Scratch& s) {
  constexpr Index kPanels = kPanelSetRows / (kPanelGroups * kLanes);
  Matrix w = whole;
  w.n = n_end;
  const Index tiles = tiles_of(a), together = tiles_together(a);
  for (Index row = n_begin; row < n_end; row += kPanelSetRows) {
    if (s.scale) fill_scales(a, whole, row, kPanelSetRows, unit<Step>(a), s.scale);
    if (s.zero) fill_zeros(a, whole, row, kPanelSetRows, s.zero);
    IVec codes[kPanels][kPanelGroups];
    for (auto& c : codes)
      for (IVec& v : c) v = all_dwords(0);
    const Index end = row + kPanelSetRows < n_end ? row + kPanelSetRows : n_end;
    const bool clean = Weights::kHasNan && known_clean(a, row, end);
    for (Index tile = 0; tile < tiles; tile += together)
      panel_set<Step, Weights>(a, whole, w, x, row, tile, tile + together < tiles ? tile + together : tiles, s, clean,
                               codes);
    if constexpr (Weights::kHasNan)
      if (!clean && !poison_set<Weights>(a, w, row, end, codes)) note_clean(a, row, end);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
