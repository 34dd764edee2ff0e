// Models larger than memory: which of a loaded transformer's weights stay mapped, and that the routed experts come from
// an ExpertStore if all of them together do not fit.
#pragma once

#include <memory>

#include "hadal/stream/streamed_experts.h"

namespace hadal::stream {

using model::Transformer;

struct StreamOptions {
  std::uint64_t memory = 0;  // bytes the model may take; 0: no limit
  // Whether it is an Error if that is too little; otherwise all weights stay mapped then, and the system pages them.
  bool strict = true;
  std::filesystem::path counts_directory;  // where use counts are kept; empty: nowhere
  io::AsyncReader::Backend backend = io::AsyncReader::Backend::kAuto;
};

// Both empty: everything fits.
struct Streaming {
  std::unique_ptr<ExpertStore> store;
  std::unique_ptr<StreamedExperts> experts;  // the transformer's token dispatcher
};

// `t` is bound to the mappings of `files`, routed experts in place (CheckpointFiles::find_in_place); `owned_bytes` is
// what was copied at loading. Empty if everything fits: then every weight is ready for use where it is. Otherwise `t`
// refers to the result, which must outlive it, and no page of the routed experts is touched. `rearranger` may be null:
// ExpertStoreOptions::ctx.
Streaming stream_experts(Transformer& t, const io::CheckpointFiles& files, std::uint64_t owned_bytes,
                         const StreamOptions& options, Context* rearranger = nullptr);

}  // namespace hadal::stream
