// How well the current weights predict what they are not trained on, and what they say: by the engine's own pass.
#pragma once

#include <string>

#include "hadal/model/transformer.h"
#include "hadal/train/expert_load.h"
#include "hadal/train/training_data.h"

namespace hadal::train {

struct Validation {
  double nats = 0;
  Index tokens = 0;
  // Of tokens that stand for text: special ones have no bytes.
  double text_nats = 0;
  std::uint64_t bytes = 0;
  ExpertCounts counts;  // of the main model's layers, over all the sequences

  double nats_per_token() const { return tokens > 0 ? nats / static_cast<double>(tokens) : 0; }
  double bits_per_byte() const;
};

// The first `sequences` sequences of `length` tokens of the validation split, always the same ones; `at_a_time` of them
// share a pass.
Validation validate(Context& ctx, const model::Transformer& model, const TrainingData& data, Index block, Index length,
                    Index sequences, Index at_a_time);

// What the model goes on with behind `prompt`: a function of weights, prompt and seed.
std::string sample_text(Context& ctx, const model::Transformer& model, const TrainingData& data,
                        const std::string& prompt, Index tokens, std::uint64_t seed);

}  // namespace hadal::train
