#include "hadal/train/run_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "hadal/core/error.h"

namespace hadal::train {
namespace {

double largest_value(const TokenTable& table) {
  double most = 0;
  for (const auto& e : table.entries) most = std::max(most, e.value);
  return most;
}

// Where the next entry of either table begins.
std::uint64_t next_change(const RunSchedule& s, std::uint64_t tokens) {
  std::uint64_t next = UINT64_MAX;
  for (const TokenTable* table : {&s.sequences, &s.sequence_length})
    for (const auto& e : table->entries)
      if (e.tokens > tokens) next = std::min(next, e.tokens);
  return next;
}

// Steps and tokens of the whole run, a stretch of equal steps at a time.
void measure_length(RunSchedule& s) {
  Index step = 0;
  std::uint64_t tokens = 0;
  while (!s.done(step, tokens)) {
    const auto a_step = static_cast<std::uint64_t>(s.sequences_at(tokens) * s.length_at(tokens));
    const std::uint64_t end = std::min(next_change(s, tokens), s.until_tokens.value_or(UINT64_MAX));
    auto steps = static_cast<Index>(std::min<std::uint64_t>((end - tokens - 1) / a_step + 1, INT64_MAX));
    if (s.until_steps) steps = std::min(steps, *s.until_steps - step);
    step += steps;
    tokens += static_cast<std::uint64_t>(steps) * a_step;
  }
  s.total_steps = step;
  s.total_tokens = tokens;
}

}  // namespace

Index RunSchedule::longest() const { return static_cast<Index>(largest_value(sequence_length)); }
Index RunSchedule::most_sequences() const { return static_cast<Index>(largest_value(sequences)); }

RunSchedule run_schedule(const TrainConfig& c) {
  RunSchedule s;
  s.sequences = c.batch.sequences;
  s.sequence_length = c.batch.sequence_length;
  s.alpha = c.objective.alpha;
  s.until_tokens = c.length.tokens;
  s.until_steps = c.length.steps;
  s.block = 1;
  for (const auto& e : s.sequence_length.entries) {
    s.block = std::lcm(s.block, static_cast<Index>(e.value));
    HADAL_CHECK(s.block < (Index{1} << 31),
                "batch.sequence_length: its lengths have no common multiple below 2^31; choose such that have");
  }
  measure_length(s);
  // Report, section 4.2: of 14.8T tokens.
  const auto share = [&](double of_report) {
    return static_cast<std::uint64_t>(std::llround(of_report / 14.8 * static_cast<double>(s.total_tokens)));
  };
  const TrainConfig::Rate& r = c.learning_rate;
  s.learning_rate = {.peak = r.peak,
                     .low = r.low.value_or(r.peak / 10),
                     .last = r.last.value_or(r.peak * 7.3 / 220),
                     .warmup_steps = r.warmup_steps,
                     .constant_until = r.constant_until.value_or(share(10)),
                     .cosine_until = r.cosine_until.value_or(share(14.3)),
                     .low_until = r.low_until.value_or(share(14.633))};
  HADAL_CHECK(s.learning_rate.constant_until <= s.learning_rate.cosine_until &&
                  s.learning_rate.cosine_until <= s.learning_rate.low_until,
              "learning_rate: constant_until {}, cosine_until {} and low_until {} must come in this order",
              s.learning_rate.constant_until, s.learning_rate.cosine_until, s.learning_rate.low_until);
  s.lambda = c.objective.lambda;
  if (s.lambda.entries.empty()) s.lambda.entries = {{0, 0.3}, {share(10), 0.1}};
  s.gamma = c.objective.gamma;
  if (s.gamma.entries.empty()) s.gamma.entries = {{0, 0.001}, {share(14.3), 0}};
  return s;
}

}  // namespace hadal::train
