// Attention of attention.h, written once for every instruction set; included like linear_impl.h. Scores and weighted
// sums are products of packed tiles, bound by multiply-adds; the softmax between them runs on sixteen lanes
// whatever the width of a vector, so that its sums have one order.
#pragma once

#include "hadal/kernels/attention.h"
#include "hadal/kernels/cpu/tiles.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr Index kPanelLanes = kPanelGroups * kLanes;
constexpr int kWideVecs = 16 / kLanes;
constexpr Index kScoreStride = kExpandedBlock + 16;  // off the power of two, so that rows do not share cache sets

// Sixteen floats.
struct Wide {
  Vec v[kWideVecs];
};
HADAL_INLINE Wide wide_load(const float* p) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = load(p + i * kLanes);
  return w;
}
HADAL_INLINE void wide_store(float* p, const Wide& w) {
  for (int i = 0; i < kWideVecs; ++i) store(p + i * kLanes, w.v[i]);
}
HADAL_INLINE Wide wide_broadcast(float x) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = broadcast(x);
  return w;
}
template <class Op>
HADAL_INLINE Wide wide_map(const Wide& a, const Wide& b, Op op) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = op(a.v[i], b.v[i]);
  return w;
}
HADAL_INLINE Wide wide_exp(const Wide& a) {
  Wide w;
  for (int i = 0; i < kWideVecs; ++i) w.v[i] = exp(a.v[i]);
  return w;
}
// One tree over the sixteen: 8 and 8, then 4 and 4 of the results, and so on.
template <class Op>
HADAL_INLINE float wide_fold(const Wide& w, Op op) {
  Vec v = w.v[0];
  if constexpr (kWideVecs == 2) v = op(v, w.v[1]);
  if constexpr (kLanes == 16) v = op(v, lanes_from<8>(v));
  v = op(v, lanes_from<4>(v));
  v = op(v, lanes_from<2>(v));
  v = op(v, lanes_from<1>(v));
  return first_lane(v);
}
HADAL_INLINE float larger(float a, float b) {
  return a > b ? a : b;
}

// acc[i][g] += a[i * a_row] * b[g * kLanes ..]
template <int R, int G>
HADAL_INLINE void add_product(const float* a, Index a_row, const float* b, Vec (&acc)[R][G]) {
  Vec w[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) w[g] = load(b + g * kLanes);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    const Vec x = broadcast(a[i * a_row]);
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) acc[i][g] = fma(x, w[g], acc[i][g]);
  }
}

// acc[i][g] += sum over k of a(k, i) * b[k * b_stride + g * kLanes ..], k ascending; a(k, i) = a[k * a_step + i *
// a_row].
template <int R, int G>
HADAL_INLINE void add_products(const float* a, Index a_step, Index a_row, const float* b, Index b_stride, Index count,
                               Vec (&acc)[R][G]) {
  for (Index k = 0; k < count; ++k) {
    add_product<R, G>(a, a_row, b, acc);
    a += a_step;
    b += b_stride;
  }
}

// Memory that will be read next, asked for a few lines at a time.
struct Ahead {
  const std::uint8_t* at;
  const std::uint8_t* end;
  HADAL_INLINE void ask(int lines) {
    for (int i = 0; i < lines && at < end; ++i, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

// ---- expanded form

HADAL_INLINE Index panels(Index n) {
  return (n + kPanelLanes - 1) / kPanelLanes;
}
// Of one head in a block: keys [panels of positions][nope + rope][lanes of a panel], then values [panels of
// v][positions that there is room for][lanes of a panel].
HADAL_INLINE float* key_panel(const KeyBlock& block, Index head, Index depth, Index key) {
  return block.head(head) + key / kPanelLanes * depth * kPanelLanes;
}
HADAL_INLINE float* value_panel(const KeyBlock& block, Index head, Index depth, Index c) {
  return block.head(head) + block.room * depth + c / kPanelLanes * block.room * kPanelLanes;
}
static_assert(kKeyAlignment % kPanelLanes == 0 && kExpandedBlock % kKeyAlignment == 0);

// Transposes `count` (up to kLanes) rows of `columns` floats, times `scale`: to[c * stride + row]. Whole vectors are
// stored; with a stride below kLanes the next column overwrites what is too much.
HADAL_INLINE void transpose_rows(const float* from, Index row_stride, Index count, Index columns, float* to,
                                 Index stride, float scale = 1) {
  const Vec factor = broadcast(scale);
  for (Index c = 0; c < columns; c += kLanes) {
    IVec r[kLanes];
    const Index left = columns - c < kLanes ? columns - c : kLanes;
    for (int i = 0; i < kLanes; ++i) {
      const float* p = from + i * row_stride + c;
      r[i] = i >= count ? all_dwords(0) : as_int(mul(left == kLanes ? load(p) : load_first(p, left), factor));
    }
    transpose(r);
    for (Index j = 0; j < left; ++j) store(to + (c + j) * stride, as_float(r[j]));
  }
}

// The values of `count` (up to kLanes) keys.
HADAL_INLINE void pack_values(const float* from, Index row_stride, Index count, Index columns, float* to,
                              Index panel_stride) {
  for (Index c = 0; c < columns; c += kPanelLanes, to += panel_stride)
    for (Index i = 0; i < count; ++i)
      for (Index g = c; g < c + kPanelLanes && g < columns; g += kLanes) {
        const float* p = from + i * row_stride + g;
        store(to + i * kPanelLanes + g - c, columns - g >= kLanes ? load(p) : load_first(p, columns - g));
      }
}

void pack_keys(const NewKeysArgs& a, Index head, Index begin, Index end, const KeyBlock& to) {
  const float* kv = a.kv + (begin - a.begin) * a.kv_token_stride + head * a.kv_head_stride;
  const float* pe = a.k_pe + (begin - a.begin) * a.k_pe_stride;
  const Index depth = a.nope + a.rope, first = begin % kExpandedBlock, rows = end - begin;
  for (Index i = 0; i < rows; i += kLanes) {
    const Index count = rows - i < kLanes ? rows - i : kLanes;
    const float* row = kv + i * a.kv_token_stride;
    // Rows lie too far apart for a machine to see by itself which ones come next.
    for (Index next = kLanes; next < 2 * kLanes && i + next < rows; ++next)
      for (Index c = 0; c < a.nope + a.v; c += 16) __builtin_prefetch(row + next * a.kv_token_stride + c, 0, 2);
    float* panel = key_panel(to, head, depth, first + i) + (first + i) % kPanelLanes;
    transpose_rows(row, a.kv_token_stride, count, a.nope, panel, kPanelLanes);
    transpose_rows(pe + i * a.k_pe_stride, a.k_pe_stride, count, a.rope, panel + a.nope * kPanelLanes, kPanelLanes);
    pack_values(row + a.nope, a.kv_token_stride, count, a.v,
                value_panel(to, head, depth, 0) + (first + i) * kPanelLanes, to.room * kPanelLanes);
  }
}

// A tile of queries on its way over the blocks of keys: packed q, weighted sums so far, scores (then weights) of the
// block at hand, and per query the largest score, the sum of weights, and what earlier sums are to be multiplied by.
struct QueryTile {
  Index token, count;
  float *q, *out, *scores, *largest, *sum, *keep;
};
// Queries that go together: a panel of keys or of values is in the L1 cache while all of their tiles meet it, and a
// block is read from memory once for all of them. What they take, and a panel, fit the L2 cache.
constexpr Index kQueriesTogether = 96;
constexpr Index kTilesTogether = kQueriesTogether / kTileRows;
static_assert(kQueriesTogether % kTileRows == 0 && kTileRows <= 16);

struct QueryTiles {
  QueryTile tile[kTilesTogether];
  Index count = 0;
  const QueryTile* begin() const { return tile; }
  const QueryTile* end() const { return tile + count; }
  const QueryTile& last() const { return tile[count - 1]; }
  const QueryTile& after(const QueryTile& t) const { return &t == &last() ? tile[0] : *(&t + 1); }
};

HADAL_INLINE Index tile_floats(const ExpandedAttentionArgs& a) {
  return (a.nope + a.rope + panels(a.v) * kPanelLanes + kScoreStride) * kTileRows + 16 + 3 * 16;
}
Index expanded_scratch_floats(const ExpandedAttentionArgs& a) {
  return kTilesTogether * tile_floats(a);
}
HADAL_INLINE QueryTile cut_tile(const ExpandedAttentionArgs& a, Index token, Index count, float* memory) {
  QueryTile t{token, count, memory, nullptr, nullptr, nullptr, nullptr, nullptr};
  t.out = t.q + (a.nope + a.rope) * kTileRows + 16;  // packing stores whole vectors
  t.scores = t.out + panels(a.v) * kPanelLanes * kTileRows;
  t.largest = t.scores + kScoreStride * kTileRows;
  t.sum = t.largest + 16;
  t.keep = t.sum + 16;
  return t;
}

// Keys of the block at `begin` that somebody in the tile sees.
HADAL_INLINE Index keys_seen(const ExpandedAttentionArgs& a, const QueryTile& t, Index begin) {
  const Index n = a.first_position + t.token + t.count - begin;
  return n < 0 ? 0 : n < kExpandedBlock ? n : kExpandedBlock;
}

// add_products of `count` steps; meanwhile R rows of `next`, `next_row` floats apart, come into the L1 cache: the other
// factor of the tile that follows.
template <int R, int G>
HADAL_INLINE void add_products_asking(const float* a, Index a_step, Index a_row, const float* b, Index b_stride,
                                      Index count, const float* next, Index next_step, Index next_row,
                                      Vec (&acc)[R][G]) {
  constexpr Index kLine = 16;
  for (; count >= kLine; count -= kLine) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) __builtin_prefetch(next + i * next_row);
#pragma GCC unroll 4
    for (int k = 0; k < kLine; ++k) {
      add_product<R, G>(a, a_row, b, acc);
      a += a_step;
      b += b_stride;
    }
    next += kLine * next_step;
  }
  add_products<R, G>(a, a_step, a_row, b, b_stride, count, acc);
}

// Scores of R queries against one panel of keys. `next` are the packed queries of the tile that follows.
template <int R>
HADAL_INLINE void score_panel(const float* q, const float* panel, Index depth, float* scores, const float* next) {
  Vec acc[R][kPanelGroups];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) acc[i][0] = acc[i][1] = zero();
  add_products_asking<R, kPanelGroups>(q, R, 1, panel, kPanelLanes, depth, next, R, 16, acc);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    store(scores + i * kScoreStride, acc[i][0]);
    store(scores + i * kScoreStride + kLanes, acc[i][1]);
  }
}

// The largest of one query's scores; those of keys from `visible` on, up to `padded`, become minus infinity.
HADAL_INLINE float largest_score(float* scores, Index visible, Index padded) {
  Wide most = wide_broadcast(-__builtin_inff());
  for (Index j = visible; j < padded; ++j) scores[j] = -__builtin_inff();
  for (Index j = 0; j < padded; j += 16)
    most = wide_map(most, wide_load(scores + j), [](Vec x, Vec y) { return max(y, x); });
  return wide_fold(most, [](Vec x, Vec y) { return max(x, y); });
}

// Sixteen N scores to weights relative to `shift`, added to `total`.
template <int N>
HADAL_INLINE void weigh_some(float* scores, Vec shift, Wide& total) {
  Vec x[N * kWideVecs];
#pragma GCC unroll 8
  for (int i = 0; i < N * kWideVecs; ++i) x[i] = sub(load(scores + i * kLanes), shift);
  exp_all(x);
#pragma GCC unroll 8
  for (int i = 0; i < N * kWideVecs; ++i) {
    store(scores + i * kLanes, x[i]);
    total.v[i % kWideVecs] = add(total.v[i % kWideVecs], x[i]);
  }
}

// Scores to weights relative to `largest`; returns their sum.
HADAL_INLINE float weigh(float* scores, Index padded, float largest) {
  const Vec shift = broadcast(largest);
  Wide total = wide_broadcast(0);
  Index j = 0;
  for (; j + 32 <= padded; j += 32) weigh_some<2>(scores + j, shift, total);
  for (; j < padded; j += 16) weigh_some<1>(scores + j, shift, total);
  return wide_fold(total, [](Vec x, Vec y) { return add(x, y); });
}

// A tile's scores of `n` keys from `begin` on to weights.
template <int R>
HADAL_INLINE void weigh_tile(const ExpandedAttentionArgs& a, const QueryTile& t, Index begin, Index n) {
  const Index padded = round_up(n, kPanelLanes);
  const Wide before = wide_load(t.largest);
  for (int i = 0; i < R; ++i) {
    const Index own = a.first_position + t.token + (i < t.count ? i : t.count - 1) + 1 - begin;
    const Index visible = own < 0 ? 0 : own < padded ? own : padded;
    const float most = largest_score(t.scores + i * kScoreStride, visible, padded);
    t.largest[i] = larger(t.largest[i], most);
  }
  wide_store(t.keep, wide_exp(wide_map(before, wide_load(t.largest), [](Vec x, Vec y) { return sub(x, y); })));
  for (int i = 0; i < R; ++i)
    t.sum[i] = t.sum[i] * t.keep[i] + weigh(t.scores + i * kScoreStride, padded, t.largest[i]);
}

// out = out * keep + weights * values, for R queries and one panel of v.
template <int R>
HADAL_INLINE void weigh_panel(const float* weights, const float* values, Index keys, const float* keep, float* out,
                              Index out_stride, const float* next) {
  Vec acc[R][kPanelGroups];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (int g = 0; g < kPanelGroups; ++g) acc[i][g] = mul(load(out + i * out_stride + g * kLanes), broadcast(keep[i]));
  add_products_asking<R, kPanelGroups>(weights, 1, kScoreStride, values, kPanelLanes, keys, next, 1, kScoreStride, acc);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (int g = 0; g < kPanelGroups; ++g) store(out + i * out_stride + g * kLanes, acc[i][g]);
}

template <int R>
void begin_tile(const ExpandedAttentionArgs& a, Index head, const QueryTile& t) {
  const float* q = a.q + t.token * a.q_token_stride + head * a.q_head_stride;
  transpose_rows(q, a.q_token_stride, t.count, a.nope + a.rope, t.q, R, a.scale);
  for (int i = 0; i < 16; ++i) t.largest[i] = i < R ? -__builtin_inff() : 0, t.sum[i] = 0;
  for (Index i = 0; i < R * panels(a.v) * kPanelLanes; ++i) t.out[i] = 0;
}

template <int R>
void end_tile(const ExpandedAttentionArgs& a, Index head, const QueryTile& t) {
  for (Index i = 0; i < t.count; ++i) {
    if (a.lse)
      a.lse[(t.token + i) * a.lse_token_stride + head] =
          static_cast<float>(double{t.largest[i]} + __builtin_log(t.sum[i]));
    const Vec factor = broadcast(1.0f / t.sum[i]);
    float* out = a.out + (t.token + i) * a.out_token_stride + head * a.out_head_stride;
    for (Index c = 0; c < a.v; c += kLanes) {
      const Vec y = mul(load(t.out + i * panels(a.v) * kPanelLanes + c), factor);
      if (a.v - c >= kLanes)
        store(out + c, y);
      else
        store_first(out + c, y, a.v - c);
    }
  }
}

// Calls f with the height of a tile of `count` queries.
template <class F>
HADAL_INLINE void with_height(Index count, const F& f) {
  if (count == 1)
    f(std::integral_constant<int, 1>{});
  else if (count <= 4)
    f(std::integral_constant<int, 4>{});
  else
    f(std::integral_constant<int, kTileRows>{});
}

// The panel that comes next, asked for in `parts`.
struct NextPanel {
  Ahead ahead;
  int lines;
  NextPanel(const float* panel, Index floats, Index parts)
      : ahead{reinterpret_cast<const std::uint8_t*>(panel), reinterpret_cast<const std::uint8_t*>(panel + floats)},
        lines(static_cast<int>(floats / 16 / parts) + 1) {}
  HADAL_INLINE void ask() { ahead.ask(lines); }
};

// Rows that are far apart, asked for line by line.
struct LaterRows {
  const float* row;
  Index stride, width, rows, column = 0;
  Index lines() const { return rows * ((width + 15) / 16); }
  HADAL_INLINE void ask(Index count) {
    for (; count > 0 && rows > 0; --count) {
      __builtin_prefetch(row + column, 0, 2);
      column += 16;
      if (column < width) continue;
      column = 0;
      row += stride;
      --rows;
    }
  }
};
// What is needed soon: where results of this head go, and the next head's queries.
struct Later {
  LaterRows out, q;
  Index out_part, q_part;
  Later(const ExpandedAttentionArgs& a, Index head, Index begin, Index end, Index parts)
      : out{a.out + begin * a.out_token_stride + head * a.out_head_stride, a.out_token_stride, a.v, end - begin},
        q{a.q + begin * a.q_token_stride + (head + 1) * a.q_head_stride, a.q_token_stride, a.nope + a.rope,
          end - begin},
        out_part(out.lines() / parts + 1),
        q_part(q.lines() / parts + 1) {}
  HADAL_INLINE void ask() {
    out.ask(out_part);
    q.ask(q_part);
  }
};

// What all tiles make of the block of keys at `begin`. Of `later` everything is asked for, unless it is null.
void attend_block(const ExpandedAttentionArgs& a, Index head, Index begin, const QueryTiles& tiles, Later* later) {
  const Index depth = a.nope + a.rope, out_stride = panels(a.v) * kPanelLanes;
  const KeyBlock& block = a.keys[static_cast<std::size_t>(begin / kExpandedBlock)];
  const Index most = keys_seen(a, tiles.last(), begin);
  for (Index j = 0; j < most; j += kPanelLanes) {
    const float* panel = key_panel(block, head, depth, j);
    NextPanel next(panel + depth * kPanelLanes, depth * kPanelLanes, tiles.count);
    for (const QueryTile& t : tiles) {
      next.ask();
      if (j < keys_seen(a, t, begin))
        with_height(t.count, [&](auto r) { score_panel<r>(t.q, panel, depth, t.scores + j, tiles.after(t).q); });
    }
  }
  for (const QueryTile& t : tiles)
    if (const Index n = keys_seen(a, t, begin)) with_height(t.count, [&](auto r) { weigh_tile<r>(a, t, begin, n); });
  for (Index c = 0; c < a.v; c += kPanelLanes) {
    const float* panel = value_panel(block, head, depth, c);
    NextPanel next(panel + block.room * kPanelLanes, most * kPanelLanes, tiles.count);
    for (const QueryTile& t : tiles) {
      next.ask();
      if (later) later->ask();
      if (const Index n = keys_seen(a, t, begin))
        with_height(t.count, [&](auto r) {
          weigh_panel<r>(t.scores, panel, n, t.keep, t.out + c, out_stride, tiles.after(t).scores);
        });
    }
  }
}

// Queries [begin, end), kQueriesTogether at most.
void attend_together(const ExpandedAttentionArgs& a, Index head, Index begin, Index end, float* memory) {
  QueryTiles tiles;
  for (Index token = begin; token < end; token += kTileRows) {
    const Index rows = end - token < kTileRows ? end - token : kTileRows;
    QueryTile& t = tiles.tile[tiles.count];
    t = cut_tile(a, token, rows, memory + tiles.count++ * tile_floats(a));
    with_height(rows, [&](auto r) { begin_tile<r>(a, head, t); });
  }
  const Index keys = a.first_position + end;
  Later later(a, head, begin, end, tiles.count * panels(a.v));
  for (Index key = 0; key < keys; key += kExpandedBlock)
    attend_block(a, head, key, tiles, key + kExpandedBlock >= keys ? &later : nullptr);
  for (const QueryTile& t : tiles) with_height(t.count, [&](auto r) { end_tile<r>(a, head, t); });
}

void expanded(const ExpandedAttentionArgs& a, Index head, Index begin, Index end, float* scratch) {
  for (Index token = begin; token < end; token += kQueriesTogether)
    attend_together(a, head, token, end - token < kQueriesTogether ? end : token + kQueriesTogether, scratch);
}

// ---- absorbed form: a key's entry serves all heads, so heads are the lanes of scores

HADAL_INLINE Index padded_heads(Index heads) {
  return round_up(heads, 16);
}
Index packed_query_floats(const AbsorbedAttentionArgs& a, Index heads) {
  return padded_heads(heads) * (a.latent + a.rope);
}

// [groups of 16 heads][latent + rope][16], times the scale.
void pack_query(const AbsorbedAttentionArgs& a, Index token, Index heads, float* to) {
  const Index depth = a.latent + a.rope;
  for (Index first = 0; first < heads; first += 16)
    for (Index i = 0; i < 16; ++i) {
      float* lane = to + first * depth + i;
      const Index head = first + i;
      if (head >= heads) {
        for (Index c = 0; c < depth; ++c) lane[c * 16] = 0;
        continue;
      }
      const float* latent = a.q_latent + token * a.q_latent_token_stride + head * a.q_latent_head_stride;
      const float* pe = a.q_pe + token * a.q_pe_token_stride + head * a.q_pe_head_stride;
      for (Index c = 0; c < a.latent; ++c) lane[c * 16] = latent[c] * a.scale;
      for (Index c = 0; c < a.rope; ++c) lane[(a.latent + c) * 16] = pe[c] * a.scale;
    }
}

template <class T>
HADAL_INLINE void convert_row(const T* from, Index n, float* to) {
  Index c = 0;
  for (; c + kLanes <= n; c += kLanes) store(to + c, load_row(from + c));
  if (c == n) return;
  T tail[kLanes] = {};
  for (Index i = 0; c + i < n; ++i) tail[i] = from[c + i];
  store_first(to + c, load_row(tail), n - c);
}

void unpack_entry(const void* stored, DType dtype, Index latent, Index rope, Index scales_at, Index rope_at,
                  float* to) {
  if (dtype == DType::kF32) return convert_row(static_cast<const float*>(stored), latent + rope, to);
  if (dtype == DType::kBF16) return convert_row(static_cast<const bf16*>(stored), latent + rope, to);
  const auto* bytes = static_cast<const std::uint8_t*>(stored);
  const auto* scales = reinterpret_cast<const float*>(bytes + scales_at);
  for (Index c = 0; c < latent; c += kLanes) {
    alignas(64) std::uint8_t tail[kLanes] = {};
    const std::uint8_t* codes = bytes + c;
    if (c + kLanes > latent) {
      for (Index i = 0; c + i < latent; ++i) tail[i] = codes[i];
      codes = tail;
    }
    const IVec v = bit_and(right_signed<4>(left<24>(load_row_bytes(codes))), all_dwords(0x87F00000u));
    // Exact, and then one rounding: the product of the code's value and the scale.
    const Vec x = mul(mul(as_float(v), broadcast(0x1p120f)), broadcast(scales[c / 128]));
    if (latent - c >= kLanes)
      store(to + c, x);
    else
      store_first(to + c, x, latent - c);
  }
  convert_row(reinterpret_cast<const bf16*>(bytes + rope_at), rope, to + latent);
}

Index absorbed_scratch_floats(Index heads) {
  return kAbsorbedBlock * padded_heads(heads);
}

// BF16 numbers that become float32 a few vectors at a time, beside multiply-adds that leave the ports for it idle.
struct Unpacking {
  const bf16* from = nullptr;
  float* to = nullptr;
  Index left = 0;  // a multiple of kLanes
  template <int kVectors>
  HADAL_INLINE void step() {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) store(to + i * kLanes, load_row(from + i * kLanes));
    from += kVectors * kLanes;
    to += kVectors * kLanes;
    left -= kVectors * kLanes;
  }
};

// Scores [keys][padded heads] of R keys against sixteen heads.
template <int R>
HADAL_INLINE void score_keys(const AbsorbedBlockArgs& a, Index key, Index head, Index stride, float* scores,
                             Ahead& ahead, Unpacking later) {
  Vec acc[R][kWideVecs];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (Vec& v : acc[i]) v = zero();
  const Index depth = a.latent + a.rope;
  const float *entries = a.entries + key * a.entry_stride, *q = a.q + head * depth;
  constexpr Index kPart = 64;
  for (Index c = 0; c < depth; c += kPart) {
    const Index end = depth - c < kPart ? depth - c : kPart;
    Index k = 0;
    // R entries need three vectors every four columns.
    constexpr int kColumns = kLanes == 16 ? 4 : 1, kVectors = kLanes == 16 ? 3 : 1;
    for (; later.left >= kVectors * kLanes && k + kColumns <= end; k += kColumns) {
      later.step<kVectors>();
      add_products<R, kWideVecs>(entries + c + k, 1, a.entry_stride, q + (c + k) * 16, 16, kColumns, acc);
    }
    add_products<R, kWideVecs>(entries + c + k, 1, a.entry_stride, q + (c + k) * 16, 16, end - k, acc);
    ahead.ask(2 * R);
  }
  while (later.left > 0) later.step<1>();
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (int g = 0; g < kWideVecs; ++g) store(scores + (key + i) * stride + head + g * kLanes, acc[i][g]);
}

HADAL_INLINE void weigh_heads(const AbsorbedBlockArgs& a, Index head, Index stride, float* scores) {
  Wide most = wide_load(scores + head), sum = wide_broadcast(0);
  for (Index j = 1; j < a.keys; ++j)
    most = wide_map(most, wide_load(scores + j * stride + head), [](Vec x, Vec y) { return max(y, x); });
  for (Index j = 0; j < a.keys; ++j) {
    float* at = scores + j * stride + head;
    const Wide e = wide_exp(wide_map(wide_load(at), most, [](Vec x, Vec y) { return sub(x, y); }));
    wide_store(at, e);
    sum = wide_map(sum, e, [](Vec x, Vec y) { return add(x, y); });
  }
  alignas(64) float lanes[2][16];
  wide_store(lanes[0], most);
  wide_store(lanes[1], sum);
  for (Index i = 0; i < 16 && head + i < a.heads; ++i) {
    a.largest[head + i] = lanes[0][i];
    a.sum[head + i] = lanes[1][i];
  }
}

// Columns [c, c + 2 vectors) of the weighted sums of R heads.
template <int R, int G>
HADAL_INLINE void weigh_columns(const AbsorbedBlockArgs& a, Index head, Index c, Index stride, const float* scores) {
  Vec acc[R][G];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (Vec& v : acc[i]) v = zero();
  add_products<R, G>(scores + head, stride, 1, a.entries + c, a.entry_stride, a.keys, acc);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    if (head + i >= a.heads) break;
    for (int g = 0; g < G; ++g) store(a.out + (head + i) * a.latent + c + g * kLanes, acc[i][g]);
  }
}

// Columns that do not fill a vector, one head at a time; small models only.
HADAL_INLINE void weigh_tail(const AbsorbedBlockArgs& a, Index c, Index stride, const float* scores) {
  const Index count = a.latent - c;
  for (Index h = 0; h < a.heads; ++h) {
    Vec acc = zero();
    for (Index j = 0; j < a.keys; ++j)
      acc = fma(broadcast(scores[j * stride + h]), load_first(a.entries + j * a.entry_stride + c, count), acc);
    store_first(a.out + h * a.latent + c, acc, count);
  }
}

constexpr int kHeadRows = kLanes / 2;            // heads of a tile of weighted sums,
constexpr int kHeadVecs = kLanes == 16 ? 2 : 3;  // and its vectors of columns

// Keys [begin, end), unpacked.
void unpack_keys(const AbsorbedBlockArgs& a, Index begin, Index end) {
  for (Index i = begin; i < end; ++i)
    unpack_entry(static_cast<const std::uint8_t*>(a.stored.rows) + i * a.stored.row_bytes, a.stored.dtype, a.latent,
                 a.rope, a.stored.scales_at, a.stored.rope_at, a.unpacked + i * a.entry_stride);
}

// Keys from `key` on, in tiles of R as long as they last; returns where they end. Stored entries are unpacked right
// before they are used for the first time; whole vectors without gaps, while the tile before is worked on.
template <int R>
HADAL_INLINE Index score_tiles(const AbsorbedBlockArgs& a, Index key, Index head, Index stride, float* scores,
                               Ahead& ahead) {
  const bool unpacks = head == 0 && a.stored.rows;
  const Index width = a.latent + a.rope;
  const bool beside = unpacks && a.stored.dtype == DType::kBF16 && width % kLanes == 0 && a.entry_stride == width &&
                      a.stored.row_bytes == width * 2;
  if (beside && key + R <= a.keys) unpack_keys(a, key, key + R);
  for (; key + R <= a.keys; key += R) {
    if (unpacks && !beside) unpack_keys(a, key, key + R);
    Unpacking later;
    if (beside && key + 2 * R <= a.keys)
      later = {static_cast<const bf16*>(a.stored.rows) + (key + R) * width, a.unpacked + (key + R) * width, R * width};
    score_keys<R>(a, key, head, stride, scores, ahead, later);
  }
  return key;
}

void absorbed_block(const AbsorbedBlockArgs& a, float* scores) {
  const Index stride = padded_heads(a.heads);
  const auto* first = static_cast<const std::uint8_t*>(a.ahead);
  Ahead ahead{first, first + a.ahead_bytes};
  for (Index head = 0; head < a.heads; head += 16) {
    Index key = score_tiles<kTileRows>(a, 0, head, stride, scores, ahead);
    key = score_tiles<kTileRows * 2 / 3>(a, key, head, stride, scores, ahead);
    key = score_tiles<2>(a, key, head, stride, scores, ahead);
    score_tiles<1>(a, key, head, stride, scores, ahead);
    weigh_heads(a, head, stride, scores);
  }
  Index c = 0;
  for (; c + kHeadVecs * kLanes <= a.latent; c += kHeadVecs * kLanes)
    for (Index head = 0; head < a.heads; head += kHeadRows)
      weigh_columns<kHeadRows, kHeadVecs>(a, head, c, stride, scores);
  for (; c + kLanes <= a.latent; c += kLanes)
    for (Index head = 0; head < a.heads; head += kHeadRows) weigh_columns<kHeadRows, 1>(a, head, c, stride, scores);
  if (c < a.latent) weigh_tail(a, c, stride, scores);
}

void merge_blocks(const float* largest, const float* sum, Index head_stride, const float* parts, Index part_stride,
                  Index blocks, Index latent, float* out) {
  float most = largest[0];
  for (Index b = 1; b < blocks; ++b) most = larger(most, largest[b * head_stride]);
  float total = 0;
  for (Index b = 0; b < blocks; ++b) {
    const float factor = first_lane(wide_exp(wide_broadcast(largest[b * head_stride] - most)).v[0]);
    total = total + sum[b * head_stride] * factor;
    const Vec f = broadcast(factor);
    for (Index c = 0; c < latent; c += kLanes) {
      const Index room = latent - c;
      const float* part = parts + b * part_stride + c;
      const Vec p = room >= kLanes ? load(part) : load_first(part, room);
      const Vec so_far = b == 0 ? zero() : room >= kLanes ? load(out + c) : load_first(out + c, room);
      const Vec y = fma(f, p, so_far);
      if (room >= kLanes)
        store(out + c, y);
      else
        store_first(out + c, y, room);
    }
  }
  const Vec factor = broadcast(1.0f / total);
  for (Index c = 0; c < latent; c += kLanes) {
    const Index room = latent - c;
    if (room >= kLanes)
      store(out + c, mul(load(out + c), factor));
    else
      store_first(out + c, mul(load_first(out + c, room), factor), room);
  }
}

constexpr AttentionKernels kTable = {
    pack_keys,    expanded_scratch_floats, expanded,       packed_query_floats, pack_query,
    unpack_entry, absorbed_scratch_floats, absorbed_block, merge_blocks};

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
