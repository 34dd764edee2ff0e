// What is minimised (DeepSeek-V3 report, sections 2.1.2, 2.2): the mean cross-entropy of the next token, lambda / D
// times the sum over MTP depths of theirs, and alpha times the sequence-wise balance loss of every MoE layer, MTP's
// included.
#pragma once

#include <vector>

#include "hadal/config/config.h"
#include "hadal/core/view.h"
#include "hadal/data/token_ids.h"

namespace hadal::train {

using config::TokenId;

using data::kIgnored;  // a target that is none

// Sequences of one length: targets[i] is the token after ids[i], or kIgnored.
struct Batch {
  Index sequences = 0, length = 0;
  std::vector<TokenId> ids, targets;  // [sequences * length]
  // Of each token, those of one document side by side: what attention and MTP stay within. Empty: whole sequences.
  std::vector<std::int32_t> documents = {};
  Index tokens() const { return sequences * length; }
  bool same_document(Index a, Index b) const;  // of two tokens of a sequence
  Batch part(Index begin, Index end) const;    // sequences [begin, end)
};

struct Objective {
  double mtp_weight = 0.3;  // lambda
  double balance = 1e-4;    // alpha
};

// What means are taken over: counts of the global batch, whatever micro-batches it is computed in. The only place where
// a loss is divided.
struct Denominators {
  Index main = 0;
  std::vector<Index> mtp;  // of each depth: valid targets that far ahead, in the same document
  Index sequences = 0;
};
Denominators denominators(const Batch& batch, Index mtp_depths);

// Sums over the micro-batches so far of their parts.
struct Losses {
  double main = 0, balance = 0;
  std::vector<double> mtp;
  std::vector<std::vector<Index>> counts;           // of each MoE layer, MTP's last: tokens of each expert
  std::vector<std::vector<double>> largest_scores;  // of each layer, MTP's last: of each head's attention
  double total(const Objective& o) const;
};

}  // namespace hadal::train
