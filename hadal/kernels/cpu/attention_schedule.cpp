#include <algorithm>
#include <vector>

#include "hadal/kernels/cpu/schedule.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels::cpu {
namespace {

constexpr Index kKeysPerPiece = 64;
static_assert(kExpandedBlock % kKeysPerPiece == 0 && kKeysPerPiece % kKeyAlignment == 0);
constexpr Index kQueriesPerPiece = 96, kFewerQueries = 48;
constexpr Index kPiecesPerThread = 8;  // at least, if queries are taken as many at a time as serves the caches best
constexpr Index kHeadTile = 16;        // heads that are packed together
constexpr Index kFewestHeads = 32;     // of a query at a time: each time, all of its entries are read
constexpr Index kStridedWork = 4;      // a value moved with a stride, beside a multiply-add

Index num_blocks(Index keys) {
  return (keys + kAbsorbedBlock - 1) / kAbsorbedBlock;
}

// Some heads of one query.
struct Portion {
  const CachedSequence* sequence;
  Index query;
  Index head, heads;
  Index keys;
  Index first_block = 0;  // among all blocks of a batch
  Index blocks() const { return num_blocks(keys); }
};

// All queries, heads of each as far as their partial results are within the bound.
std::vector<Portion> portions_of(std::span<const CachedSequence> sequences, Index heads, Index latent,
                                 Index partial_floats) {
  std::vector<Portion> portions;
  for (const CachedSequence& s : sequences)
    for (Index query = s.begin; query < s.end; ++query) {
      const Index keys = s.keys(query);
      Index group = partial_floats / (num_blocks(keys) * latent);
      if (group < heads) group = std::max(kFewestHeads, group / kHeadTile * kHeadTile);
      for (Index head = 0; head < heads; head += group)
        portions.push_back({&s, query, head, std::min(group, heads - head), keys});
    }
  return portions;
}

// Portions one after another, as many as are worked on together: from `begin` on up to what is returned.
std::size_t end_of_batch(std::span<const Portion> portions, std::size_t begin, Index latent, Index partial_floats) {
  // One block more for the packed query.
  const auto floats = [&](const Portion& p) { return (p.blocks() + 1) * p.heads * latent; };
  std::size_t end = begin;
  Index taken = floats(portions[end++]);
  while (end < portions.size() && portions[end].heads == portions[begin].heads &&
         taken + floats(portions[end]) <= partial_floats)
    taken += floats(portions[end++]);
  return end;
}

// Portions that are worked on together: every block of each is a piece of the parallel loop, then partial results are
// put together head by head, in the order of the blocks.
class AbsorbedBatch {
 public:
  AbsorbedBatch(const AttentionKernels& kernels, const AbsorbedAttentionArgs& args, std::span<Portion> portions)
      : kernels_(kernels), args_(args), portions_(portions), width_(args.latent + args.rope) {
    for (std::size_t i = 0; i < portions.size(); ++i) {
      portions[i].first_block = static_cast<Index>(portion_of_.size());
      portion_of_.insert(portion_of_.end(), static_cast<std::size_t>(portions[i].blocks()), i);
      heads_ = std::max(heads_, portions[i].heads);
    }
    query_floats_ = kernels_.packed_query_floats(args, heads_);
    scratch_floats_ = kAbsorbedBlock * width_ + kernels_.absorbed_scratch_floats(heads_);
  }

  // What run() takes.
  WorkspaceNeed need(Index threads) const {
    WorkspaceNeed need;
    need.floats(static_cast<Index>(portions_.size()) * query_floats_);
    for (int i = 0; i < 2; ++i) need.floats(num_blocks() * heads_);
    need.floats(threads * scratch_floats_);
    need.floats(num_blocks() * heads_ * args_.latent);
    return need;
  }

  void run(Context& ctx) {
    const Workspace::Scope scope(ctx.workspace);
    const Index blocks = num_blocks();
    queries_ = ctx.workspace.floats({static_cast<Index>(portions_.size()), query_floats_});
    largest_ = ctx.workspace.floats({blocks, heads_});
    sums_ = ctx.workspace.floats({blocks, heads_});
    scratch_ = ctx.workspace.floats({ctx.threads.num_threads(), scratch_floats_});
    parts_ = ctx.workspace.floats({blocks, heads_, args_.latent});
    pack_queries(ctx);
    ctx.threads.parallel_for(blocks, 1, [&](Index block, Index) { attend(block); });
    merge(ctx);
  }

 private:
  Index num_blocks() const { return static_cast<Index>(portion_of_.size()); }

  void pack_queries(Context& ctx) {
    const Index tiles = (heads_ + kHeadTile - 1) / kHeadTile, count = static_cast<Index>(portions_.size()) * tiles;
    ctx.threads.parallel_for(
        count, piece_size(ctx, count, kHeadTile * width_ * kStridedWork, 1), [&](Index begin, Index end) {
          for (Index i = begin; i < end; ++i) {
            const Portion& p = portions_[static_cast<std::size_t>(i / tiles)];
            const Index head = i % tiles * kHeadTile;
            if (head >= p.heads) continue;
            AbsorbedAttentionArgs tile = args_;
            tile.q_latent += (p.head + head) * args_.q_latent_head_stride;
            tile.q_pe += (p.head + head) * args_.q_pe_head_stride;
            kernels_.pack_query(tile, p.query, std::min(kHeadTile, p.heads - head),
                                queries_.data<float>() + i / tiles * query_floats_ + head * width_);
          }
        });
  }

  void attend(Index block) {
    float* entries = scratch_.data<float>() + ThreadPool::current_thread() * scratch_floats_;
    const std::size_t i = portion_of_[static_cast<std::size_t>(block)];
    const Portion& p = portions_[i];
    const StoredEntries& stored = p.sequence->stored;
    const Index page = block - p.first_block, begin = page * kAbsorbedBlock,
                end = std::min(begin + kAbsorbedBlock, p.keys);
    AbsorbedBlockArgs a;
    a.q = queries_.data<float>() + static_cast<Index>(i) * query_floats_;
    a.entries = entries;
    a.entry_stride = width_;
    a.keys = end - begin;
    a.heads = p.heads;
    a.latent = args_.latent;
    a.rope = args_.rope;
    a.largest = largest_.view<float, 2>().row(block);
    a.sum = sums_.view<float, 2>().row(block);
    a.out = parts_.view<float, 3>().row(block);
    if (end < p.keys) {
      a.ahead = p.sequence->pages[static_cast<std::size_t>(page) + 1];
      a.ahead_bytes = std::min(kAbsorbedBlock, p.keys - end) * stored.row_bytes;
    }
    const void* rows = p.sequence->pages[static_cast<std::size_t>(page)];
    if (stored.dtype == DType::kF32) {
      a.entries = static_cast<const float*>(rows);
      a.entry_stride = stored.row_bytes / static_cast<Index>(sizeof(float));
    } else {
      a.stored = stored;
      a.stored.rows = rows;
      a.unpacked = entries;
    }
    kernels_.absorbed_block(a, entries + kAbsorbedBlock * width_);
  }

  void merge(Context& ctx) {
    const auto count = static_cast<Index>(portions_.size()) * heads_;
    const Index work = args_.latent * static_cast<Index>(portion_of_.size() / portions_.size());
    ctx.threads.parallel_for(count, piece_size(ctx, count, work, 1), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Portion& p = portions_[static_cast<std::size_t>(i / heads_)];
        const Index head = i % heads_, block = p.first_block;
        if (head >= p.heads) continue;
        kernels_.merge(&largest_.view<float, 2>()(block, head), &sums_.view<float, 2>()(block, head), heads_,
                       &parts_.view<float, 3>()(block, head, 0), heads_ * args_.latent, p.blocks(), args_.latent,
                       args_.out + p.query * args_.out_token_stride + (p.head + head) * args_.out_head_stride);
      }
    });
  }

  const AttentionKernels& kernels_;
  const AbsorbedAttentionArgs& args_;
  std::span<const Portion> portions_;
  std::vector<std::size_t> portion_of_;  // of each block
  Index width_, heads_ = 0, query_floats_ = 0, scratch_floats_ = 0;
  TensorRef queries_;         // packed, one a portion
  TensorRef parts_;           // [blocks, heads, latent]
  TensorRef largest_, sums_;  // [blocks, heads]
  TensorRef scratch_;
};

// Of a thread.
Index query_scratch_floats(const Context& ctx, const ExpandedAttentionArgs& a) {
  return (attention_kernels(ctx.numerics.isa).expanded_scratch_floats(a) + 15) / 16 * 16;
}

Index queries_per_piece(const Context& ctx, Index tokens, Index heads) {
  const Index pieces = heads * ((tokens + kQueriesPerPiece - 1) / kQueriesPerPiece);
  return pieces >= kPiecesPerThread * ctx.threads.num_threads() ? kQueriesPerPiece : kFewerQueries;
}

}  // namespace

void pack_keys(Context& ctx, const NewKeysArgs& a, Index heads, std::span<const KeyBlock> blocks) {
  const AttentionKernels& k = attention_kernels(ctx.numerics.isa);
  // Pieces begin at multiples of their size, so that none reaches into a second block.
  const Index first = a.begin / kKeysPerPiece, pieces = (a.end + kKeysPerPiece - 1) / kKeysPerPiece - first;
  ctx.threads.parallel_for(heads * pieces, 1, [&](Index i, Index) {
    const Index at = (first + i % pieces) * kKeysPerPiece;
    k.pack_keys(a, i / pieces, std::max(at, a.begin), std::min(at + kKeysPerPiece, a.end),
                blocks[static_cast<std::size_t>(at / kExpandedBlock)]);
  });
}

WorkspaceNeed attend_expanded_need(const Context& ctx, const ExpandedAttentionArgs& a, Index) {
  WorkspaceNeed need;
  need.floats(ctx.threads.num_threads() * query_scratch_floats(ctx, a));
  return need;
}

void attend_expanded(Context& ctx, const ExpandedAttentionArgs& a, Index tokens, Index heads) {
  const AttentionKernels& k = attention_kernels(ctx.numerics.isa);
  const Workspace::Scope scope(ctx.workspace);
  const Index scratch_floats = query_scratch_floats(ctx, a);
  const TensorRef scratch = ctx.workspace.floats({ctx.threads.num_threads(), scratch_floats});
  const Index size = queries_per_piece(ctx, tokens, heads), query_pieces = (tokens + size - 1) / size;
  ctx.threads.parallel_for(heads * query_pieces, 1, [&](Index i, Index) {
    // Late queries see most keys: they go first, so that the threads end together.
    const Index piece = query_pieces - 1 - i / heads, begin = piece * size;
    k.expanded(a, i % heads, begin, std::min(begin + size, tokens),
               scratch.data<float>() + ThreadPool::current_thread() * scratch_floats);
  });
}

WorkspaceNeed attend_absorbed_need(const Context& ctx, const AbsorbedAttentionArgs& a, Index heads,
                                   std::span<const CachedSequence> sequences, Index partial_floats) {
  WorkspaceNeed need;
  std::vector<Portion> portions = portions_of(sequences, heads, a.latent, partial_floats);
  for (std::size_t begin = 0, end = 0; begin < portions.size(); begin = end) {
    end = end_of_batch(portions, begin, a.latent, partial_floats);
    need.within(AbsorbedBatch(attention_kernels(ctx.numerics.isa), a, std::span(portions).subspan(begin, end - begin))
                    .need(ctx.threads.num_threads()));
  }
  return need;
}

void attend_absorbed(Context& ctx, const AbsorbedAttentionArgs& a, Index heads,
                     std::span<const CachedSequence> sequences, Index partial_floats) {
  std::vector<Portion> portions = portions_of(sequences, heads, a.latent, partial_floats);
  for (std::size_t begin = 0, end = 0; begin < portions.size(); begin = end) {
    end = end_of_batch(portions, begin, a.latent, partial_floats);
    AbsorbedBatch(attention_kernels(ctx.numerics.isa), a, std::span(portions).subspan(begin, end - begin)).run(ctx);
  }
}

}  // namespace hadal::kernels::cpu
