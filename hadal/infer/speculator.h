// An engine's drafts: after each pass it hands over what the pass has computed, and gets the drafts that the sequences
// take into the next one.
#pragma once

#include <optional>
#include <span>

#include "hadal/infer/draft_length.h"
#include "hadal/infer/mtp_drafter.h"
#include "hadal/infer/sequence.h"
#include "hadal/infer/speculation.h"

namespace hadal::infer {

class Speculator {
 public:
  // Keeps a reference to the transformer. kMtp and kAuto without MTP layers are kOff and kLookup.
  Speculator(const EngineOptions& options, const model::Transformer& transformer);

  // A sequence of a pass: rows [begin, begin + kept) of its hidden states are those of tokens that stand now, the
  // sequence's [first, first + kept).
  struct Passed {
    Sequence& sequence;
    Index begin, kept, first;
    bool prompt;
  };
  // `hidden` are all rows of a pass that took `seconds`. Sequences that decode now may have drafts afterwards. Drafts
  // are worth no failure: where the cache has no room, or an observer ends the pass, there are none.
  void passed(Context& ctx, const TensorRef& hidden, std::span<const Passed> passed, double seconds);

  // Of a sequence that decoded: of so many drafts of that source so many were right; -1: none, and no token came.
  void verified(Speculate source, Index drafted, Index accepted);

  const SpeculationStats& stats() const { return stats_; }

 private:
  bool mtp() const { return drafter_ && (speculate_ == Speculate::kMtp || speculate_ == Speculate::kAuto); }
  bool lookup() const { return speculate_ == Speculate::kLookup || speculate_ == Speculate::kAuto; }
  void remember(Context& ctx, const TensorRef& hidden, std::span<const Passed> passed) const;
  void look_up(std::span<Sequence* const> decoding);
  void count_time(std::span<const Passed> passed, double seconds, double draft_seconds);
  void run_mtp(Context& ctx, std::span<const Passed> passed, std::span<Sequence* const> decoding);

  Speculate speculate_;
  Index most_, fixed_;
  DraftLength mtp_length_, lookup_length_;
  std::optional<MtpDrafter> drafter_;
  SpeculationStats stats_;
};

}  // namespace hadal::infer
