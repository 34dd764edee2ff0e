// Decoding with drafts beside decoding without, and beside what the bytes allow.
#pragma once

#include <optional>

#include "hadal/perf/model_bench.h"

namespace hadal::perf {

struct SpeculationCase {
  infer::Speculate speculate = infer::Speculate::kAuto;
  Index drafts = 0;                  // of a step; 0: as many as pay
  std::optional<double> acceptance;  // drafts that count as right, whatever they are; none: those that are
  Index steps = 64;                  // tokens of one run
};

// Tokens a second of one answer to a random prompt, in turns with the same without drafts (`rates`: "plain", in tok/s;
// "speed-up", "tokens-a-step"). The limit, where an acceptance is given: plain decoding's rate times the tokens that a
// step brings, over the bytes that a step with drafts reads, the MTP layer's included, by those of a step without.
Row speculative_decode(Context& ctx, stream::LoadedModel& model, const SpeculationCase& what,
                       const RunOptions& options);

}  // namespace hadal::perf
