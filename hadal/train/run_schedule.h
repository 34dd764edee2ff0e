// The schedules of a run, with what its configuration leaves open taken from the report by the same shares of the run.
#pragma once

#include <optional>

#include "hadal/train/objective.h"
#include "hadal/train/train_config.h"

namespace hadal::train {

// Tokens are those consumed before a step: positions of all sequences, whether they predict anything or not.
struct RunSchedule {
  TokenTable sequences, sequence_length, lambda, gamma;
  LearningRate learning_rate;
  double alpha = 0;
  std::optional<std::uint64_t> until_tokens;
  std::optional<Index> until_steps;
  std::uint64_t total_tokens = 0;
  Index total_steps = 0;
  Index block = 0;  // a multiple of every sequence length: what of the data is one piece

  Index sequences_at(std::uint64_t tokens) const { return static_cast<Index>(sequences.at(tokens)); }
  Index length_at(std::uint64_t tokens) const { return static_cast<Index>(sequence_length.at(tokens)); }
  Objective objective_at(std::uint64_t tokens) const { return {lambda.at(tokens), alpha}; }
  bool done(Index step, std::uint64_t tokens) const {
    return until_steps ? step >= *until_steps : tokens >= *until_tokens;
  }
  Index longest() const;
  Index most_sequences() const;
};

// Throws Error for a schedule whose parts come in no order.
RunSchedule run_schedule(const TrainConfig& config);

}  // namespace hadal::train
