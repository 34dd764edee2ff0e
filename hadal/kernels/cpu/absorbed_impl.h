// Attention of decoding (attention.h): a key's entry serves all heads, so heads are the lanes of scores; included like
// linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/attention_parts.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

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

// BF16 numbers that become float32 a few at a time, beside multiply-adds that leave the ports for it idle.
struct Unpacking {
  const bf16* from = nullptr;
  float* to = nullptr;
  Index left = 0;
  // `count` sixteens of them.
  HADAL_INLINE void step(int count) {
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) store_sixteen(to + i * 16, from + i * 16);
    from += count * 16;
    to += count * 16;
    left -= count * 16;
  }
};

// acc += `count` columns of R entries times those of sixteen heads.
template <int R>
HADAL_INLINE void add_columns(const float* entries, Index stride, const float* q, Index count,
                              Vec (&acc)[R][kWideVecs]) {
  if constexpr (R == kLoopRows)
    for (; count >= kLoopSteps; count -= kLoopSteps, entries += kLoopSteps, q += 16 * kLoopSteps)
      add_steps_of_six_rows(entries, stride, q, acc);
  add_products<R, kWideVecs>(entries, 1, stride, q, 16, count, acc);
}

constexpr int kHeadRows = kLanes / 2;            // heads of a tile of weighted sums,
constexpr int kHeadVecs = kLanes == 16 ? 2 : 3;  // and its vectors of columns

// Columns of scores, and keys of weighted sums, that are worked on at a stretch.
constexpr Index kColumnStretch = 64;
// Rows of more entries share too few sets of an L1 cache of 32 KiB to stay there while all heads meet their columns.
constexpr Index kKeyStretch = kLoopRows > 0 ? 64 : kAbsorbedBlock;
constexpr Index stretches(Index n, Index size) {
  return (n + size - 1) / size;
}

// What the thread reads next, asked for at an even pace: half of it beside the scores of a block and half beside its
// weighted sums, a few lines each stretch.
struct NextEntries {
  Ahead ahead;
  int beside_scores, beside_sums;
  explicit NextEntries(const AbsorbedBlockArgs& a)
      : ahead{static_cast<const std::uint8_t*>(a.ahead), static_cast<const std::uint8_t*>(a.ahead) + a.ahead_bytes} {
    const Index lines = stretches(a.ahead_bytes, 128);
    beside_scores = static_cast<int>(stretches(
        lines, stretches(a.heads, 16) * stretches(a.keys, kTileRows) * stretches(a.latent + a.rope, kColumnStretch)));
    beside_sums = static_cast<int>(stretches(lines, stretches(a.heads, kHeadRows) * stretches(a.keys, kKeyStretch) *
                                                        stretches(a.latent, kHeadVecs * kLanes)));
  }
};

// Scores [keys][padded heads] of R keys against sixteen heads.
template <int R>
HADAL_INLINE void score_keys(const AbsorbedBlockArgs& a, Index key, Index head, Index stride, float* scores,
                             NextEntries& next, Unpacking later) {
  Vec acc[R][kWideVecs];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (Vec& v : acc[i]) v = zero();
  const Index depth = a.latent + a.rope;
  const float *entries = a.entries + key * a.entry_stride, *q = a.q + head * depth;
  constexpr Index kColumns = 4;
  for (Index c = 0; c < depth; c += kColumnStretch) {
    const Index end = depth - c < kColumnStretch ? depth : c + kColumnStretch;
    Index k = c;
    // R entries need R sixteens every sixteen columns.
    for (; later.left >= R * 8 && k + 2 * kColumns <= end; k += 2 * kColumns) {
      later.step((R + 2) / 4);
      add_columns<R>(entries + k, a.entry_stride, q + k * 16, kColumns, acc);
      later.step(R / 2 - (R + 2) / 4);
      add_columns<R>(entries + k + kColumns, a.entry_stride, q + (k + kColumns) * 16, kColumns, acc);
    }
    add_columns<R>(entries + k, a.entry_stride, q + k * 16, end - k, acc);
    next.ahead.ask(next.beside_scores);
  }
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

// acc[i] += weights[j * stride + i] * values[j * value_stride ..] for `count` keys j.
template <int R, int G>
HADAL_INLINE void add_keys(const float* weights, Index stride, const float* values, Index value_stride, Index count,
                           Vec (&acc)[R][G]) {
  if constexpr (kLoopRows > 0 && R == kHeadRows && G == kHeadVecs)
    for (; count >= kLoopSteps;
         count -= kLoopSteps, weights += kLoopSteps * stride, values += kLoopSteps * value_stride)
      add_steps_of_four(weights, stride, values, value_stride, acc);
  add_products<R, G>(weights, stride, 1, values, value_stride, count, acc);
}

// Columns [c, c + G vectors) of the weighted sums of R heads: adds keys [begin, end).
template <int R, int G>
HADAL_INLINE void weigh_columns(const AbsorbedBlockArgs& a, Index head, Index c, Index begin, Index end, Index stride,
                                const float* scores) {
  Vec acc[R][G];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (int g = 0; g < G; ++g)
      acc[i][g] = begin == 0 || head + i >= a.heads ? zero() : load(a.out + (head + i) * a.latent + c + g * kLanes);
  add_keys<R, G>(scores + begin * stride + head, stride, a.entries + begin * a.entry_stride + c, a.entry_stride,
                 end - begin, acc);
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

// The weighted sums of columns [c, c + G vectors), R heads at a time.
template <int R, int G>
HADAL_INLINE void weigh_all_heads(const AbsorbedBlockArgs& a, Index c, Index stride, const float* scores,
                                  NextEntries& next) {
  for (Index key = 0; key < a.keys; key += kKeyStretch)
    for (Index head = 0; head < a.heads; head += R) {
      weigh_columns<R, G>(a, head, c, key, a.keys - key < kKeyStretch ? a.keys : key + kKeyStretch, stride, scores);
      next.ahead.ask(next.beside_sums);
    }
}

// Keys [begin, end), unpacked.
void unpack_keys(const AbsorbedBlockArgs& a, Index begin, Index end) {
  for (Index i = begin; i < end; ++i)
    unpack_entry(static_cast<const std::uint8_t*>(a.stored.rows) + i * a.stored.row_bytes, a.stored.dtype, a.latent,
                 a.rope, a.stored.scales_at, a.stored.rope_at, a.unpacked + i * a.entry_stride);
}

// Keys from `key` on, in tiles of R as long as they last; returns where they end. Stored entries are unpacked right
// before they are used for the first time; whole sixteens without gaps, while the tile before is worked on.
template <int R>
HADAL_INLINE Index score_tiles(const AbsorbedBlockArgs& a, Index key, Index head, Index stride, float* scores,
                               NextEntries& next) {
  const bool unpacks = head == 0 && a.stored.rows;
  const Index width = a.latent + a.rope;
  const bool beside = R == kTileRows && unpacks && a.stored.dtype == DType::kBF16 && width % 16 == 0 &&
                      a.entry_stride == width && a.stored.row_bytes == width * 2;
  if (beside && key + R <= a.keys) unpack_keys(a, key, key + R);
  for (; key + R <= a.keys; key += R) {
    if (unpacks && !beside) unpack_keys(a, key, key + R);
    Unpacking later;
    if (beside && key + 2 * R <= a.keys)
      later = {static_cast<const bf16*>(a.stored.rows) + (key + R) * width, a.unpacked + (key + R) * width, R * width};
    score_keys<R>(a, key, head, stride, scores, next, later);
  }
  return key;
}

void absorbed_block(const AbsorbedBlockArgs& a, float* scores) {
  const Index stride = padded_heads(a.heads);
  NextEntries next(a);
  for (Index head = 0; head < a.heads; head += 16) {
    Index key = score_tiles<kTileRows>(a, 0, head, stride, scores, next);
    key = score_tiles<kTileRows * 2 / 3>(a, key, head, stride, scores, next);
    key = score_tiles<2>(a, key, head, stride, scores, next);
    score_tiles<1>(a, key, head, stride, scores, next);
    weigh_heads(a, head, stride, scores);
  }
  Index c = 0;
  for (; c + kHeadVecs * kLanes <= a.latent; c += kHeadVecs * kLanes)
    weigh_all_heads<kHeadRows, kHeadVecs>(a, c, stride, scores, next);
  for (; c + kLanes <= a.latent; c += kLanes) weigh_all_heads<8, 1>(a, c, stride, scores, next);
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

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
