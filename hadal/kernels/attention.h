// Causal attention of one sequence over its latent cache, in the two forms of MLA. Every query sums over its keys in
// the order of their positions, so results do not depend on how a prompt was cut into chunks.
#pragma once

#include <span>

#include "hadal/core/dtype.h"
#include "hadal/core/numerics.h"
#include "hadal/core/view.h"

namespace hadal::kernels {

// Expanded form (prompts): keys and values per head. They are made once, and lie in blocks of positions as the kernels
// of an instruction set read them; what they look like there is those kernels' business.
inline constexpr Index kExpandedBlock = 256;

// Where a piece of packing may begin.
inline constexpr Index kKeyAlignment = 32;

// Floats of one head in a block with room for `room` positions, a multiple of kKeyAlignment.
constexpr Index key_block_floats(Index nope, Index rope, Index v, Index room) {
  return room * (nope + rope + (v + 31) / 32 * 32);
}

// kExpandedBlock positions of several heads; of the last block there may be room for fewer.
struct KeyBlock {
  float* data = nullptr;
  Index head_stride = 0;
  Index room = 0;  // positions
  float* head(Index h) const { return data + h * head_stride; }
};

// Keys and values of positions [begin, end), as kv_b_proj gives them.
struct NewKeysArgs {
  const float* kv = nullptr;  // [end - begin, heads, nope + v]: k_nope and v side by side
  Index kv_token_stride = 0, kv_head_stride = 0;
  const float* k_pe = nullptr;  // [end - begin, rope], shared by the heads
  Index k_pe_stride = 0;
  Index nope = 0, rope = 0, v = 0;
  Index begin = 0, end = 0;  // begin is a multiple of kKeyAlignment
};

// Query t sits at position first_position + t and sees keys [0, first_position + t].
struct ExpandedAttentionArgs {
  const float* q = nullptr;  // [T, heads, nope + rope]: strides below
  Index q_token_stride = 0, q_head_stride = 0;
  std::span<const KeyBlock> keys = {};  // those that are seen, from position 0
  float* out = nullptr;                 // [T, heads, v]
  Index out_token_stride = 0, out_head_stride = 0;
  float* lse = nullptr;  // [T, heads], unless null: log of the sum of exp(score), which a backward pass needs
  Index lse_token_stride = 0;
  Index nope = 0, rope = 0, v = 0;
  Index first_position = 0;
  float scale = 1;
};

// Absorbed form (decoding): all heads share one latent key, which is also the value.
struct AbsorbedAttentionArgs {
  const float* q_latent = nullptr;  // [T, heads, latent]: q_nope W^UK
  Index q_latent_token_stride = 0, q_latent_head_stride = 0;
  const float* q_pe = nullptr;  // [T, heads, rope]
  Index q_pe_token_stride = 0, q_pe_head_stride = 0;
  const float* cache = nullptr;  // [L, latent + rope]
  Index cache_stride = 0;
  float* out = nullptr;  // [T, heads, latent]
  Index out_token_stride = 0, out_head_stride = 0;
  Index latent = 0, rope = 0;
  Index first_position = 0;
  float scale = 1;
};

// One (token, head) each; `scores` is scratch of first_position + token + 1 floats, rounded up to 8.
namespace ref {
void pack_keys(const NewKeysArgs& args, Index head, Index begin, Index end, const KeyBlock& to);
void attend_expanded(const ExpandedAttentionArgs& args, Index token, Index head, float* scores);
void attend_absorbed(const AbsorbedAttentionArgs& args, Index token, Index head, float* scores);
}  // namespace ref

// The fast kernels, in blocks of keys that begin at fixed positions: within a block, scores are chains over the head
// dimension, exponentials are taken relative to the largest score so far, sums over keys are chains in the order of the
// positions. A query's result therefore depends on its own keys only, and on no instruction set.
inline constexpr Index kAbsorbedBlock = 128;

// Entries of a cache as they are stored: F32, BF16 or FP8 (U8, parts as in ops/latent_entry.h).
struct StoredEntries {
  const void* rows = nullptr;
  DType dtype = DType::kBF16;
  Index row_bytes = 0;
  Index scales_at = 0, rope_at = 0;  // FP8: bytes into an entry
};

namespace ref {
// One entry in FP8: codes and scales of `latent` values, a scale for every 128, and `rope` values in BF16; and back.
void pack_entry(const float* values, Index latent, Index rope, Index scales_at, Index rope_at, void* stored);
void unpack_entry(const void* stored, Index latent, Index rope, Index scales_at, Index rope_at, float* values);
}  // namespace ref

// The cache entries of one block of keys, and what attention makes of them for all heads of one token.
struct AbsorbedBlockArgs {
  const float* q = nullptr;        // packed by pack_query
  const float* entries = nullptr;  // [keys, latent + rope]
  Index entry_stride = 0;
  StoredEntries stored;       // if it has rows: they are what `entries` begin as,
  float* unpacked = nullptr;  // which are written here, at the same place
  Index keys = 0;
  Index heads = 0, latent = 0, rope = 0;
  const void* ahead = nullptr;  // what this thread will read next, asked for meanwhile
  Index ahead_bytes = 0;
  float* largest = nullptr;  // [heads]: the largest score of the block
  float* sum = nullptr;      // [heads]: sum of exp(score - largest)
  float* out = nullptr;      // [heads, latent]: sum of exp(score - largest) * entry
};

// Queries [begin, end) of a pass, at positions first_position on, and the entries of their sequence's cache in pages of
// kAbsorbedBlock; the last one may hold fewer.
struct CachedSequence {
  Index begin = 0, end = 0;
  Index first_position = 0;
  std::span<const void* const> pages = {};
  StoredEntries stored = {};  // how entries lie in a page; without `rows`
  Index keys(Index query) const { return first_position + query - begin + 1; }
};

struct AttentionKernels {
  // Expanded form. Positions [begin, end) of one head, which lie in one block; begin is a multiple of kKeyAlignment.
  void (*pack_keys)(const NewKeysArgs& args, Index head, Index begin, Index end, const KeyBlock& to);
  Index (*expanded_scratch_floats)(const ExpandedAttentionArgs& args);
  void (*expanded)(const ExpandedAttentionArgs& args, Index head, Index begin, Index end,
                   float* scratch);  // queries [begin, end)

  // Absorbed form.
  Index (*packed_query_floats)(const AbsorbedAttentionArgs& args, Index heads);
  void (*pack_query)(const AbsorbedAttentionArgs& args, Index token, Index heads, float* to);
  // `stored` entries of a cache in F32, BF16 or FP8 (`scales_at` and `rope_at` bytes into an entry) as float32.
  void (*unpack)(const void* stored, DType dtype, Index latent, Index rope, Index scales_at, Index rope_at, float* to);
  Index (*absorbed_scratch_floats)(Index heads);
  void (*absorbed_block)(const AbsorbedBlockArgs& args, float* scratch);
  // out [latent] = the blocks of one head put together: partial results of `blocks` blocks lie `stride` floats apart.
  void (*merge)(const float* largest, const float* sum, Index head_stride, const float* parts, Index part_stride,
                Index blocks, Index latent, float* out);
};

// The instruction set must be supported and not kRef.
const AttentionKernels& attention_kernels(Isa isa);

namespace avx2 {
extern const AttentionKernels kAttention;
}
namespace avx512 {
extern const AttentionKernels kAttention;
}

}  // namespace hadal::kernels
