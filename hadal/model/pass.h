// One forward pass: whose tokens its rows are, where they stand, how they are computed and where the experts are. The
// same for all layers.
#pragma once

#include <span>
#include <vector>

#include "hadal/model/kv_cache.h"
#include "hadal/model/rotary.h"
#include "hadal/model/token_dispatcher.h"
#include "hadal/ops/attention.h"
#include "hadal/ops/rope.h"

namespace hadal::model {

// The tokens of one sequence among those of a pass: rows [begin, end), which stand behind what its cache holds.
struct SequenceRows {
  Index begin, end;
  Form form;
  KvCache& cache;
  bool last;  // nothing of the prompt is left for later passes
  Index count() const { return end - begin; }
};

class Pass {
 public:
  // How many tokens are run behind which cache, and how; how many of the prompt come in later passes. Rows in the
  // absorbed form come first.
  struct Run {
    Index count;
    Form form;
    KvCache& cache;
    Index to_come = 0;
  };
  // Makes room in the caches, whose first layer is `first_layer` of the model. Throws InvalidRequest if there is none.
  Pass(std::span<const Run> runs, Index first_layer, TokenDispatcher& dispatcher);
  // To be called before the layers run.
  void set_rope(Context& ctx, const Rotary& rotary);

  TokenDispatcher& experts;
  ops::RopeTable rope;

  Index tokens() const { return rows_.back().end; }

  // Rows [0, absorbed) are computed in the absorbed form, the others in the expanded one.
  Index absorbed() const { return absorbed_; }
  std::span<const SequenceRows> expanded_sequences() const { return std::span(rows_).subspan(num_absorbed_); }

  // c_kv [T, kv_lora_rank] and k_pe [T, rope] of all rows become entries of `layer` behind their caches' lengths.
  void append(Context& ctx, Index layer, const ConstTensorRef& c_kv, const ConstTensorRef& k_pe) const;
  // What one sequence's rows in the expanded form look at, their own entries included.
  ops::CachedEntries entries(Index layer, const SequenceRows& s) const;
  // What rows [0, absorbed) look at, as stored, page by page.
  struct Cached {
    std::vector<std::vector<ConstTensorRef>> pages;  // of each sequence
    std::vector<ops::CachedRows> rows;
  };
  Cached cached(Index layer) const;
  std::vector<ops::CachedRows> absorbed_rows() const;  // the same without the pages
  // All layers have appended: the caches are longer by the pass's tokens.
  void finish() const;

 private:
  std::vector<SequenceRows> rows_;
  std::size_t num_absorbed_ = 0;  // sequences
  Index absorbed_ = 0, first_layer_ = 0;
};

}  // namespace hadal::model
