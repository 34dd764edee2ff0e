// A pass of the main model that may pause between its layers, so that other passes run in between: a long prompt then
// holds nobody up, and its weights are still read once for all its rows.
#pragma once

#include <functional>

#include "hadal/model/transformer.h"

namespace hadal::model {

// What it writes into the caches lies behind their lengths until it has finished; if it is dropped before, or throws,
// its sequences have to be cut to their lengths (SequenceState::truncate). They must not run elsewhere meanwhile.
class PausedPass {
 public:
  // As Transformer::hidden. The ids are copied, the states referred to.
  PausedPass(Context& ctx, const Transformer& transformer, std::span<const Segment> segments);

  // Runs a layer at least, and further ones as long as `go_on` says so after each. True: all layers have run.
  bool run(Context& ctx, const std::function<bool()>& go_on);
  // Of one that has finished: as Transformer::hidden gives them.
  TensorRef hidden(Context& ctx) const;
  Index tokens() const { return pass_.tokens(); }

 private:
  const Transformer& transformer_;
  std::vector<TokenId> ids_;
  std::uint64_t cache_bytes_;
  Pass pass_;
  std::size_t need_ = 0;
  Tensor x_;  // the residual stream [T, hidden]
  Index next_ = 0;
};

}  // namespace hadal::model
