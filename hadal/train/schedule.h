// What changes while a model is trained (report, section 4.2), by what came before a step: how many steps, how many
// tokens. Pure functions, so that a resumed run goes on where it was.
#pragma once

#include <cstdint>
#include <vector>

#include "hadal/core/view.h"

namespace hadal::train {

// A value that jumps: lambda, gamma, sequences of a batch, tokens of a sequence.
struct TokenTable {
  struct Entry {
    std::uint64_t tokens;  // from here on
    double value;
  };
  std::vector<Entry> entries;  // tokens ascending, the first 0

  // Throws Error that begins with `what` if the entries are not like that.
  void check(const char* what) const;
  double at(std::uint64_t tokens) const;  // of the last entry whose tokens are no more
};

// From `first` to `last` in `steps` equal jumps at equal distances, `last` from `tokens` on. The report's batch size
// goes "gradually" from 3072 to 15360 over 469B tokens; others do it so too.
TokenTable ramp(double first, double last, int steps, std::uint64_t tokens);

// Linear warm-up by steps; beside it by tokens: `peak`, then along half a cosine down to `low`, then `last`.
struct LearningRate {
  double peak = 0, low = 0, last = 0;
  Index warmup_steps = 0;
  std::uint64_t constant_until = 0;  // tokens with `peak`
  std::uint64_t cosine_until = 0;    // where `low` is reached
  std::uint64_t low_until = 0;       // `last` from here on

  // Of the step after `step` steps and `tokens` tokens. The first one has peak / warmup_steps, that number warmup_steps
  // the peak: no step has a rate of zero.
  double at(Index step, std::uint64_t tokens) const;
};

}  // namespace hadal::train
