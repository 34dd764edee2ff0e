#include "hadal/infer/speculation.h"

#include <algorithm>

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

}  // namespace hadal::infer
