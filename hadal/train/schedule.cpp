#include "hadal/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "hadal/core/error.h"

namespace hadal::train {

void TokenTable::check(const char* what) const {
  HADAL_CHECK(!entries.empty() && entries.front().tokens == 0, "{}: no value from token 0 on", what);
  for (std::size_t i = 1; i < entries.size(); ++i)
    HADAL_CHECK(entries[i].tokens > entries[i - 1].tokens, "{}: the entry at {} tokens comes after the one at {}", what,
                entries[i].tokens, entries[i - 1].tokens);
}

double TokenTable::at(std::uint64_t tokens) const {
  const auto next = std::upper_bound(entries.begin(), entries.end(), tokens,
                                     [](std::uint64_t n, const Entry& e) { return n < e.tokens; });
  HADAL_CHECK(next != entries.begin(), "schedule: no value at {} tokens", tokens);
  return std::prev(next)->value;
}

TokenTable ramp(double first, double last, int steps, std::uint64_t tokens) {
  HADAL_CHECK(steps > 0 && tokens >= static_cast<std::uint64_t>(steps), "schedule: a ramp of {} steps over {} tokens",
              steps, tokens);
  TokenTable table;
  const auto count = static_cast<std::uint64_t>(steps);
  for (std::uint64_t i = 0; i <= count; ++i)
    // tokens * i / count without overflow.
    table.entries.push_back({tokens / count * i + tokens % count * i / count,
                             first + (last - first) * static_cast<double>(i) / static_cast<double>(steps)});
  return table;
}

double LearningRate::at(Index step, std::uint64_t tokens) const {
  const double warm = step < warmup_steps ? static_cast<double>(step + 1) / static_cast<double>(warmup_steps) : 1.0;
  if (tokens < constant_until) return peak * warm;
  if (tokens >= low_until && tokens >= cosine_until) return last * warm;
  if (tokens >= cosine_until) return low * warm;
  const double way = static_cast<double>(tokens - constant_until) / static_cast<double>(cosine_until - constant_until);
  return (low + (peak - low) * (1 + std::cos(std::numbers::pi * way)) / 2) * warm;
}

}  // namespace hadal::train
