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

 private:
  SequenceState(KvCache main_cache) : main(std::move(main_cache)) {}
};

}  // namespace hadal::model
