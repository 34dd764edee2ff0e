// The routed experts while training: as ops::mixture without the shared expert (the same bits in F32), with what the
// backward pass needs kept, and that backward pass. F32 or F64.
#pragma once

#include <span>

#include "hadal/ops/experts.h"

namespace hadal::ops {

// What the forward pass leaves: rows in the order of `groups`, one for each token and slot.
struct SavedExperts {
  ExpertGroups groups;
  ConstTensorRef gate, up;  // [T K, width of an expert]
};
// What backward_input leaves for backward_weight.
struct ExpertGradients {
  TensorRef u;           // [T, D]
  TensorRef weights;     // [T, K]
  ConstTensorRef d_out;  // [T, D]
  TensorRef gate, up;    // [T K, width]
  TensorRef inner;       // [T K, width], times the slot's weight
};

// u [T, D] -> sum over slots of weights[t, s] * E(u_t), [T, D]. Gate and up are made in `kept`.
TensorRef experts_forward(Context& ctx, Context& kept, const ConstTensorRef& u, const Selection& chosen,
                          std::span<const FeedForwardRef> experts, SavedExperts& saved);
ExpertGradients experts_backward_input(Context& ctx, const ConstTensorRef& d_out, const ConstTensorRef& weights,
                                       std::span<const FeedForwardRef> experts, const SavedExperts& saved);
// Adds to the gradients of experts that some token chose.
void experts_backward_weight(Context& ctx, const ConstTensorRef& u, std::span<const FeedForwardRef> experts,
                             const SavedExperts& saved, const ExpertGradients& gradients);

}  // namespace hadal::ops
