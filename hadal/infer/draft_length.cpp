#include "hadal/infer/draft_length.h"

#include <algorithm>

namespace hadal::infer {
namespace {

// A hundred drafts back a result counts for a seventh.
constexpr double kForget = 0.98;
// Before anything is known: V3's second token is right in four of five cases (report, 5.4.3).
constexpr double kPriorTried = 2, kPriorRight = 1.7;
// What a row more is guessed to cost, of a row's share, while no pass has shown it.
constexpr double kGuessedRow = 0.3;
// Steps without drafts after they did not pay, doubled each time up to the largest.
constexpr Index kFirstPause = 64, kLongestPause = 2048;
constexpr Index kProbes = 2;       // steps with drafts after a pause
constexpr Index kPlainEvery = 64;  // a step without drafts among those with

void average(std::vector<double>& values, Index at, double value) {
  const auto i = static_cast<std::size_t>(at);
  if (i >= values.size()) values.resize(i + 1);
  double& old = values[i];
  // One interrupted pass says nothing about the next.
  old = old == 0 ? value : old + 0.2 * (std::min(value, 3 * old) - old);
}

// From the nearest known values: between two of them on their line, beyond the last two likewise, but never falling;
// beyond the only one each step adds `step` of that.
double estimate(const std::vector<double>& values, Index at, double step) {
  Index below = -1, before = -1, above = -1;
  for (Index i = 0; i < static_cast<Index>(values.size()); ++i) {
    if (values[static_cast<std::size_t>(i)] == 0) continue;
    if (i <= at) before = below, below = i;
    if (i >= at && above < 0) above = i;
  }
  const auto value = [&](Index i) { return values[static_cast<std::size_t>(i)]; };
  const auto line = [&](Index a, Index b) {
    return value(a) + (value(b) - value(a)) * static_cast<double>(at - a) / static_cast<double>(b - a);
  };
  if (below < 0) return above < 0 ? 0 : value(above);
  if (below == at) return value(at);
  if (above >= 0) return line(below, above);
  if (before >= 0) return std::max(value(below), line(before, below));
  return value(below) * (1 + step * static_cast<double>(at - below) / static_cast<double>(std::max<Index>(below, 1)));
}

}  // namespace

DraftLength::DraftLength(Index most)
    : most_(most),
      tried_(static_cast<std::size_t>(most), kPriorTried),
      right_(static_cast<std::size_t>(most), kPriorRight),
      pause_(kFirstPause),
      probes_left_(kProbes) {}

double DraftLength::acceptance(Index depth) const {
  const auto d = static_cast<std::size_t>(depth);
  return right_[d] / tried_[d];
}

double DraftLength::expected_tokens(Index length) const {
  double tokens = 1, all_right = 1;
  for (Index depth = 0; depth < length; ++depth) tokens += all_right *= acceptance(depth);
  return tokens;
}

double DraftLength::pass_seconds(Index rows) const {
  return estimate(pass_seconds_, rows, kGuessedRow);
}

double DraftLength::draft_seconds(Index length) const {
  return length == 0 ? 0 : estimate(draft_seconds_, length, 1);
}

double DraftLength::rate(Index sequences, Index length) const {
  const double seconds = pass_seconds(sequences * (1 + length)) + draft_seconds(length);
  return seconds > 0 ? expected_tokens(length) / seconds : 0;
}

Index DraftLength::best(Index sequences) const {
  // One more than was ever tried: guesses about longer ones are worth little.
  const Index longest = std::min(most_, longest_ + 1);
  Index best = 0;
  for (Index length = 1; length <= longest; ++length)
    if (rate(sequences, length) > rate(sequences, best)) best = length;
  return best;
}

Index DraftLength::choose(Index sequences) {
  ++steps_;
  if (most_ == 0 || pass_seconds(sequences) == 0) return 0;  // what a plain step takes comes first
  if (steps_ < paused_until_) return 0;
  if (const Index length = best(sequences); length > 0) {
    pause_ = kFirstPause;
    probes_left_ = kProbes;
    return steps_ % kPlainEvery == 0 ? 0 : length;
  }
  if (probes_left_-- > 0) return 1;
  probes_left_ = kProbes;
  paused_until_ = steps_ + pause_;
  pause_ = std::min(2 * pause_, kLongestPause);
  return 0;
}

void DraftLength::pass_took(Index rows, double seconds) {
  average(pass_seconds_, rows, seconds);
}

void DraftLength::drafts_took(Index length, double seconds) {
  average(draft_seconds_, length, seconds);
}

void DraftLength::verified(Index drafted, Index accepted) {
  longest_ = std::max(longest_, drafted);
  for (Index depth = 0; depth < std::min({drafted, accepted + 1, most_}); ++depth) {
    const auto d = static_cast<std::size_t>(depth);
    tried_[d] = kForget * tried_[d] + 1;
    right_[d] = kForget * right_[d] + (depth < accepted ? 1 : 0);
  }
}

}  // namespace hadal::infer
