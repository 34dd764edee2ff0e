// Attention of prompts (attention.h), keys and values per head; included like linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/attention_parts.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr Index kPanelLanes = kPanelGroups * kLanes;
constexpr Index kScoreStride = kExpandedBlock + 16;  // off the power of two, so that rows do not share cache sets

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

// The panel that comes next: `tiles` tiles together ask for it while they go over the one at hand, so many lines every
// sixteen steps.
struct NextPanel {
  const float* line;
  int pace;
  NextPanel(const float* panel, Index tiles) : line(panel), pace(static_cast<int>((kPanelLanes + tiles - 1) / tiles)) {}
  HADAL_INLINE void ask() {
    for (int i = 0; i < pace; ++i, line += 16) __builtin_prefetch(line, 0, 2);
  }
};

// add_products of `count` steps; meanwhile R rows of `next`, `next_row` floats apart, come into the L1 cache, the other
// factor of the tile that follows, and a part of the next panel into the L2 cache.
template <int R, int G>
HADAL_INLINE void add_products_asking(const float* a, Index a_step, Index a_row, const float* b, Index b_stride,
                                      Index count, const float* next, Index next_step, Index next_row, NextPanel& panel,
                                      Vec (&acc)[R][G]) {
  constexpr Index kLine = 16;
  for (; count >= kLine; count -= kLine) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) __builtin_prefetch(next + i * next_row);
    panel.ask();
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

// Scores of R queries against one panel of keys.
template <int R>
HADAL_INLINE void score_panel(const float* q, const float* panel, Index depth, float* scores, const float* next,
                              NextPanel& next_panel) {
  Vec acc[R][kPanelGroups];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) acc[i][0] = acc[i][1] = zero();
  add_products_asking<R, kPanelGroups>(q, R, 1, panel, kPanelLanes, depth, next, R, 16, next_panel, acc);
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
                              Index out_stride, const float* next, NextPanel& next_panel) {
  Vec acc[R][kPanelGroups];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (int g = 0; g < kPanelGroups; ++g) acc[i][g] = mul(load(out + i * out_stride + g * kLanes), broadcast(keep[i]));
  add_products_asking<R, kPanelGroups>(weights, 1, kScoreStride, values, kPanelLanes, keys, next, 1, kScoreStride,
                                       next_panel, acc);
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
    NextPanel next(panel + depth * kPanelLanes, tiles.count);
    for (const QueryTile& t : tiles)
      if (j < keys_seen(a, t, begin))
        with_height(t.count, [&](auto r) { score_panel<r>(t.q, panel, depth, t.scores + j, tiles.after(t).q, next); });
  }
  for (const QueryTile& t : tiles)
    if (const Index n = keys_seen(a, t, begin)) with_height(t.count, [&](auto r) { weigh_tile<r>(a, t, begin, n); });
  for (Index c = 0; c < a.v; c += kPanelLanes) {
    const float* panel = value_panel(block, head, depth, c);
    NextPanel next(panel + block.room * kPanelLanes, tiles.count);
    for (const QueryTile& t : tiles) {
      if (later) later->ask();
      if (const Index n = keys_seen(a, t, begin))
        with_height(t.count, [&](auto r) {
          weigh_panel<r>(t.scores, panel, n, t.keep, t.out + c, out_stride, tiles.after(t).scores, next);
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

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
