// How many tokens to draft, from what drafts have gained and cost so far. A function of the observations it was told,
// no clock: it changes how fast an answer comes and never which one.
#pragma once

#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::infer {

class DraftLength {
 public:
  // At most `most` tokens a sequence and step.
  explicit DraftLength(Index most);

  // The draft length that promises most tokens a second for a step of `sequences`; 0 if plain steps do. Now and then
  // another one, so that the estimates stay true.
  Index choose(Index sequences);

  // A pass of so many rows, all of them decoding, took so long; drafting `length` tokens for each sequence took so
  // long.
  void pass_took(Index rows, double seconds);
  void drafts_took(Index length, double seconds);
  // Of `drafted` tokens of a sequence the first `accepted` were right.
  void verified(Index drafted, Index accepted);

  // What a pass of so many rows takes, as far as is known; 0: not at all.
  double pass_seconds(Index rows) const;

  // The share of drafts at this depth (from 0), all before them right, that were right; lately.
  double acceptance(Index depth) const;
  // Tokens that a step with drafts of this length brings a sequence.
  double expected_tokens(Index length) const;

 private:
  double draft_seconds(Index length) const;
  double rate(Index sequences, Index length) const;
  Index best(Index sequences) const;

  Index most_;
  std::vector<double> pass_seconds_, draft_seconds_;  // by rows, by length; 0: not known
  std::vector<double> tried_, right_;                 // by depth; older ones count less
  Index longest_ = 0;                                 // drafts that were verified
  Index steps_ = 0, pause_, paused_until_ = 0, probes_left_;
};

}  // namespace hadal::infer
