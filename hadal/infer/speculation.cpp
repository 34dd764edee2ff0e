#include "hadal/infer/speculation.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace hadal::infer {
namespace {

constexpr Speculate kAll[] = {Speculate::kOff, Speculate::kMtp, Speculate::kLookup, Speculate::kAuto};

}  // namespace

std::string_view speculate_name(Speculate speculate) {
  switch (speculate) {
    case Speculate::kOff:
      return "off";
    case Speculate::kMtp:
      return "mtp";
    case Speculate::kLookup:
      return "lookup";
    case Speculate::kAuto:
      return "auto";
  }
  return "off";
}

std::optional<Speculate> speculate_named(std::string_view name) {
  for (const Speculate s : kAll)
    if (speculate_name(s) == name) return s;
  return std::nullopt;
}

void SpeculationStats::verified(Index drafts, Index right) {
  ++steps;
  tokens += 1 + right;
  const auto depths = std::max(drafted.size(), static_cast<std::size_t>(drafts));
  drafted.resize(depths);
  accepted.resize(depths);
  // Behind the first wrong one nobody knows.
  for (Index depth = 0; depth < std::min(drafts, right + 1); ++depth) {
    ++drafted[static_cast<std::size_t>(depth)];
    if (depth < right) ++accepted[static_cast<std::size_t>(depth)];
  }
}

SpeculationStats& SpeculationStats::operator+=(const SpeculationStats& other) {
  const auto add = [](std::vector<Index>& to, const std::vector<Index>& from) {
    to.resize(std::max(to.size(), from.size()));
    std::transform(from.begin(), from.end(), to.begin(), to.begin(), std::plus<>());
  };
  add(drafted, other.drafted);
  add(accepted, other.accepted);
  steps += other.steps;
  tokens += other.tokens;
  seconds += other.seconds;
  plain_seconds += other.plain_seconds;
  return *this;
}

std::string describe(const SpeculationStats& stats) {
  const auto percent = [](Index part, Index all) {
    return 100 * static_cast<double>(part) / static_cast<double>(std::max<Index>(all, 1));
  };
  const Index drafted = std::accumulate(stats.drafted.begin(), stats.drafted.end(), Index{0});
  const Index accepted = std::accumulate(stats.accepted.begin(), stats.accepted.end(), Index{0});
  if (drafted == 0) return "drafts: none";
  std::string depths;
  for (std::size_t d = 0; d < stats.drafted.size() && stats.drafted[d] > 0; ++d)
    depths += fmt::format("{}{:.0f} %", d == 0 ? "" : ", ", percent(stats.accepted[d], stats.drafted[d]));
  return fmt::format("drafts: {} of {} right ({:.1f} %), by depth {}; {:.2f} tokens a step", accepted, drafted,
                     percent(accepted, drafted), depths,
                     static_cast<double>(stats.tokens) / static_cast<double>(std::max<Index>(stats.steps, 1)));
}

}  // namespace hadal::infer
