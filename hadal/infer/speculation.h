// Which way an engine speculates, and what came of it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::infer {

// Where drafts come from. A draft is taken exactly where it is the token that would be sampled anyway, so that this
// changes how fast an answer comes and not a byte of it.
enum class Speculate {
  kOff,
  kMtp,     // the model's own MTP layer, if it has one
  kLookup,  // what followed the same words before (prompt_lookup.h)
  kAuto,    // lookup where it finds something, else MTP
};
std::string_view speculate_name(Speculate speculate);  // "off", "mtp", "lookup", "auto"
std::optional<Speculate> speculate_named(std::string_view name);

struct SpeculationStats {
  std::vector<Index> drafted, accepted;  // by depth, from 0
  Index steps = 0, tokens = 0;           // of each sequence and pass that sampled, and what they brought
  // Seconds that the tokens so far took, and that they would have taken without drafts, by what passes of each size
  // take.
  double seconds = 0, plain_seconds = 0;

  void verified(Index drafts, Index right);
  SpeculationStats& operator+=(const SpeculationStats& other);
};

// "drafts: 61 of 74 right (82.4 %), by depth 82 %, 40 %; 1.8 tokens a step", or that there were none.
std::string describe(const SpeculationStats& stats);

}  // namespace hadal::infer
