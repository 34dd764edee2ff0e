// Where the time of a forward pass goes: seconds per phase, for `hadal bench profile`. An observer: what the model names
// (core/observer.h) ends the piece of work before it, and the table in phase_times.cpp says which phase that was.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>

#include "hadal/core/observer.h"

namespace hadal::perf {

enum class Phase : std::uint8_t {
  kOther,  // what no name ends
  kEmbedding,
  kNorms,        // norms, rope, router, residual sums
  kProjections,  // linears of attention, in both forms
  kAttention,    // scores, softmax, weighted sums
  kFeedForward,  // dense layers
  kExperts,      // routed and shared experts
  kHead,
  kSampling,
};
inline constexpr int kNumPhases = 9;
inline constexpr std::array<std::string_view, kNumPhases> kPhaseNames = {
    "other", "embedding", "norms", "projections", "attention", "feed_forward", "experts", "head", "sampling"};

// For the thread that runs the model.
class PhaseTimes : public Observer {
 public:
  using Clock = std::function<double()>;  // seconds

  explicit PhaseTimes(Clock clock = steady_seconds) : clock_(std::move(clock)), since_(clock_()) {}
  // Charges the time since the last name that is in the table. Names that are not in it end nothing.
  void on_value(std::string_view name, const ConstTensorRef& value) override;
  // Charges the time that is left to kOther.
  void stop() { charge(Phase::kOther); }
  double seconds(Phase phase) const { return seconds_[static_cast<std::size_t>(phase)]; }

 private:
  static double steady_seconds();
  void charge(Phase phase);

  Clock clock_;
  std::array<double, kNumPhases> seconds_{};
  double since_;
};

// What the work that `name` ends belongs to; kOther: the name ends nothing.
Phase phase_ended_by(std::string_view name);

}  // namespace hadal::perf
