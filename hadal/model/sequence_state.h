// What a sequence keeps between passes: the latent cache of the main model and one for each MTP depth.
#pragma once

#include <memory>
#include <vector>

#include "hadal/model/kv_cache.h"

namespace hadal::model {

// Where the caches of a model's sequences have their memory.
struct CachePools {
  std::shared_ptr<PagePool> main, mtp;  // pages of num_hidden_layers layers, and of one
  Index mtp_depths = 0;

  // max_pages limits the main model's, 0: as many as there is memory; MTP has enough for as many tokens. kept_bytes:
  // what prompts of several passes may keep of the main model's keys and values, all together.
  CachePools(const config::Config& config, Index mtp_depths, DType dtype, Index max_pages = 0,
             std::uint64_t kept_bytes = 0, DeviceMemory& memory = host_memory());
  std::uint64_t bytes() const { return main->bytes() + mtp->bytes(); }
};

// What others may take over of a sequence's tokens [128 i, 128 (i + 1)): the main model's entries, and MTP's as far as
// they depend on these tokens and those before them. An MTP entry was computed from later tokens than the one it stands
// for (SequenceState::truncate), so that the last entries of a page belong to the tokens of the page behind it: a page
// of MTP's goes with both.
struct SharedPage {
  PageRef main;
  std::vector<Form> forms;  // of the tokens: as many as there are
  struct Depth {
    PageRef before, here;  // MTP's pages i - 1 and i
    Index length = 0;      // of the whole cache, up to these tokens
  };
  std::vector<Depth> mtp;
  Index count() const { return static_cast<Index>(forms.size()); }
};

struct SequenceState {
  KvCache main;
  std::vector<KvCache> mtp;  // positions from 0 at every depth (rule 40)

  SequenceState(const CachePools& pools, Index capacity);

  // Forgets the tokens from position `length` on, at every depth. Entry i of depth d (from 0) was computed from token
  // i + 1 + d, so it goes with it.
  void truncate(Index length);
  // What the prompt kept for its next pass: there will be none.
  void forget_keys() { main.forget_keys(); }
  // Another sequence with the first `length` tokens of this one; memory is shared (KvCache::fork).
  SequenceState fork(Index length) const;

  // What this sequence has of page `page`, of its first `length` tokens.
  SharedPage share(Index page, Index length) const;
  // Instead of what it holds, the first `length` tokens of these pages, which follow one another. `known` >= length:
  // tokens that it has in common with whom they come from, so that MTP's entries may reach as far as the main model's.
  void adopt(std::span<const SharedPage* const> pages, Index length, Index known);

 private:
  SequenceState(KvCache main_cache) : main(std::move(main_cache)) {}
};

}  // namespace hadal::model
