// Where the time of a forward pass goes: nanoseconds per phase, for `hadal bench profile`. Scopes are placed in the
// model; without a PhaseTimes in the Context they cost a comparison with null.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace hadal {

enum class Phase : std::uint8_t {
  kOther,  // outside every scope
  kEmbedding,
  kNorms,        // norms, rope, router, residual sums
  kProjections,  // linears of attention, in both forms
  kAttention,    // scores, softmax, weighted sums
  kFeedForward,  // dense layers
  kExperts,      // routed experts, with the shared ones where one op computes both
  kSharedExperts,
  kHead,
  kSampling,
};
inline constexpr int kNumPhases = 10;
inline constexpr std::array<std::string_view, kNumPhases> kPhaseNames = {
    "other",        "embedding", "norms",          "projections", "attention",
    "feed_forward", "experts",   "shared_experts", "head",        "sampling"};

// Time is charged to one phase at a time, the innermost. For the thread that runs the model.
class PhaseTimes {
 public:
  // From here on, as phase kOther; what was counted before is forgotten.
  void start() {
    nanoseconds_ = {};
    current_ = Phase::kOther;
    since_ = Clock::now();
  }
  // Charges the time so far and goes on in `phase`; returns the phase left.
  Phase enter(Phase phase) {
    const auto now = Clock::now();
    nanoseconds_[static_cast<std::size_t>(current_)] += std::chrono::nanoseconds(now - since_).count();
    since_ = now;
    const Phase left = current_;
    current_ = phase;
    return left;
  }
  double seconds(Phase phase) const {
    return static_cast<double>(nanoseconds_[static_cast<std::size_t>(phase)]) * 1e-9;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::array<std::int64_t, kNumPhases> nanoseconds_{};
  Phase current_ = Phase::kOther;
  Clock::time_point since_ = Clock::now();
};

// A phase until the end of the block, or until enter() names the next one; then the phase around it goes on.
class PhaseScope {
 public:
  PhaseScope(PhaseTimes* times, Phase phase) : times_(times) {
    if (times_) outer_ = times_->enter(phase);
  }
  ~PhaseScope() { enter(outer_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;
  void enter(Phase phase) {
    if (times_) times_->enter(phase);
  }

 private:
  PhaseTimes* times_;
  Phase outer_ = Phase::kOther;
};

}  // namespace hadal
