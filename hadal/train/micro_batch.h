// Forward and backward of one micro-batch, layer after layer: the schedule of one process.
#pragma once

#include <functional>

#include "hadal/model/transformer.h"
#include "hadal/train/objective.h"

namespace hadal::train {

class MicroBatch {
 public:
  // `recompute`: see model::Keep. Saved activations are in memory of their own, which is used again.
  explicit MicroBatch(const model::Transformer& model, bool recompute = false) : model_(model), recompute_(recompute) {}

  // Between layers observers are asked; one may end it by throwing, and what has been added is of no use then. Adds the
  // micro-batch's part of the losses to `losses`, and of their gradients to the gradients of the weights.
  void run(Context& ctx, const Batch& batch, const Objective& objective, const Denominators& denominators,
           Losses& losses);

  // Forward alone: the hidden states after the final norm [B * S, hidden] are handed to `use`, and are gone after it.
  void forward(Context& ctx, const Batch& batch, const std::function<void(const ConstTensorRef& hidden)>& use);

  std::size_t saved_bytes() const { return saved_.allocated_bytes(); }

 private:
  const model::Transformer& model_;
  bool recompute_;
  Workspace saved_;
};

}  // namespace hadal::train
