// What a model in training says of given tokens, by the arithmetic of the engine's prompt_logprobs: in float32 the same
// bits on the same weights, as both run the same layers in the expanded form and sums have one order.
#pragma once

#include <vector>

#include "hadal/train/micro_batch.h"

namespace hadal::train {

// [B * S]: of every target; 0 where there is none.
std::vector<double> log_probabilities(Context& ctx, MicroBatch& forward, const model::Transformer& model,
                                      const Batch& batch);

}  // namespace hadal::train
