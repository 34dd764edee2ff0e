#include "hadal/ops/latent_attention.h"

#include <algorithm>

#include "hadal/ops/elementwise.h"

namespace hadal::ops {
namespace {

// Bounds on the keys and values of a group of heads, 128 MiB, and on those of a piece of positions before they are
// packed, 8 MiB.
constexpr Index kGroupFloats = Index{1} << 25;
constexpr Index kPieceFloats = Index{1} << 21;

// Some heads of a sequence's attention.
struct HeadGroup {
  const CachedEntries& entries;
  Weight w_ukv;  // of these heads
  HeadSizes head;
  Index heads;
  std::span<const TensorRef> blocks;
};

// Positions whose keys and values are made at a time.
Index piece_positions(const CachedEntries& entries, Index heads, Index per_head) {
  const Index width = std::max(heads * per_head, entries.fp8.latent + entries.fp8.rope);
  return std::max<Index>(kPieceFloats / width / kKeyBlock, 1) * kKeyBlock;
}

WorkspaceNeed make_keys_need(const Context& ctx, const CachedEntries& entries, const Weight& w_ukv, Index heads,
                             Index begin, Index end) {
  const Index most = std::min(end - begin / kKeyAlignment * kKeyAlignment,
                              piece_positions(entries, heads, w_ukv.num_rows() / heads));
  WorkspaceNeed need;
  need.floats(most * (entries.fp8.latent + entries.fp8.rope));
  need.then(linear_not_fp8_need(ctx, most, w_ukv));
  return need;
}

// Heads whose keys and values are in memory together.
Index group_heads(const HeadSizes& head, Index heads, Index keys) {
  return std::clamp<Index>(kGroupFloats / (keys * key_block_floats(head, 1)), 1, heads);
}

// Keys and values of positions [begin, end), and of those before them that share a piece of packing.
void make_keys(Context& ctx, const HeadGroup& g, Index begin, Index end) {
  const Index per_head = g.head.nope + g.head.v, latent = g.w_ukv.num_columns();
  const Index piece = piece_positions(g.entries, g.heads, per_head);
  for (Index at = begin / kKeyAlignment * kKeyAlignment; at < end; at += piece) {
    const Workspace::Scope scope(ctx.workspace);
    const ConstTensorRef some = read_entries(ctx, g.entries, at, std::min(at + piece, end));
    const TensorRef kv = linear_not_fp8(ctx, some.columns(0, latent), g.w_ukv).split_last(g.heads, per_head);
    ctx.observe("keys_values", kv);
    pack_keys(ctx, kv, some.columns(latent, latent + g.head.rope), g.head, at, g.blocks);
  }
}

// Empty: nothing is kept.
std::span<const TensorRef> kept_blocks(const CachedEntries& entries, const HeadSizes& head, Index heads, Index keys) {
  return entries.kept ? entries.kept->reserve(head, heads, keys) : std::span<const TensorRef>();
}

ConstTensorRef as_stored(const CachedEntries& entries, Index page, Index begin, Index end) {
  return entries.pages[static_cast<std::size_t>(page)].rows(begin - page * kPageTokens, end - page * kPageTokens);
}

}  // namespace

WorkspaceNeed expand_and_attend_need(const Context& ctx, Index tokens, Index heads, const CachedEntries& entries,
                                     const Weight& w_ukv, HeadRows rows, Index first_position) {
  const HeadSizes head{rows.nope, entries.fp8.rope, rows.v};
  const Index keys = first_position + tokens, per_head = rows.nope + rows.v;
  WorkspaceNeed need;
  if (entries.kept) {
    need.within(make_keys_need(ctx, entries, w_ukv, heads, std::min(entries.kept->length(), first_position), keys));
    need.within(attend_expanded_need(ctx, head, tokens, first_position));
    return need;
  }
  const Index group = group_heads(head, heads, keys);
  WorkspaceNeed of_group = new_key_blocks_need(head, group, keys);
  of_group.within(make_keys_need(ctx, entries, w_ukv.rows(0, group * per_head), group, 0, keys));
  of_group.within(attend_expanded_need(ctx, head, tokens, first_position));
  need.within(of_group);
  return need;
}

ConstTensorRef read_entries(Context& ctx, const CachedEntries& entries, Index begin, Index end) {
  HADAL_CHECK(0 <= begin && begin < end && (end - 1) / kPageTokens < static_cast<Index>(entries.pages.size()),
              "read_entries: [{}, {}) of {} pages", begin, end, entries.pages.size());
  const DType dtype = entries.pages[0].dtype();
  const Index first = begin / kPageTokens, last = (end - 1) / kPageTokens;
  if (dtype == DType::kF32 && first == last) return as_stored(entries, first, begin, end);
  const TensorRef copy = ctx.workspace.floats({end - begin, entries.fp8.latent + entries.fp8.rope});
  for (Index page = first; page <= last; ++page) {
    const Index from = std::max(begin, page * kPageTokens), until = std::min(end, (page + 1) * kPageTokens);
    const ConstTensorRef stored = as_stored(entries, page, from, until);
    const TensorRef to = copy.rows(from - begin, until - begin);
    if (dtype == DType::kU8)
      unpack_entries(ctx, entries.fp8, stored, to);
    else
      to_float(ctx, stored, to);
  }
  return copy;
}

void expand_and_attend(Context& ctx, const ConstTensorRef& q, const CachedEntries& entries, const Weight& w_ukv,
                       HeadRows rows, Index first_position, double scale, const TensorRef& out) {
  const Index heads = q.size(1), per_head = rows.nope + rows.v, keys = first_position + q.size(0);
  HADAL_CHECK(q.rank() == 3 && w_ukv.num_rows() == heads * per_head &&
                  entries.fp8.latent + entries.fp8.rope == w_ukv.num_columns() + q.size(2) - rows.nope,
              "expand_and_attend: q {}, entries of {} and {}, w_ukv {} by {}", q.shape().to_string(),
              entries.fp8.latent, entries.fp8.rope, w_ukv.num_rows(), w_ukv.num_columns());
  const HeadSizes head{rows.nope, q.size(2) - rows.nope, rows.v};
  if (const auto blocks = kept_blocks(entries, head, heads, keys); !blocks.empty()) {
    // Behind first_position may lie what a pass that was not finished has left.
    const Index made = std::min(entries.kept->length(), first_position);
    make_keys(ctx, {entries, w_ukv, head, heads, blocks}, made, keys);
    entries.kept->set_length(keys);
    attend_expanded(ctx, q, blocks, head, first_position, scale, out);
    ctx.observe("heads_out", out);
    return;
  }
  const Index group = group_heads(head, heads, keys);
  for (Index begin = 0; begin < heads; begin += group) {
    const Workspace::Scope scope(ctx.workspace);
    const Index end = std::min(begin + group, heads);
    const std::vector<TensorRef> blocks = new_key_blocks(ctx, head, end - begin, keys);
    make_keys(ctx, {entries, w_ukv.rows(begin * per_head, end * per_head), head, end - begin, blocks}, 0, keys);
    const TensorRef o = out.slice(1, begin, end);
    attend_expanded(ctx, q.slice(1, begin, end), blocks, head, first_position, scale, o);
    ctx.observe("heads_out", o);
  }
}

}  // namespace hadal::ops
