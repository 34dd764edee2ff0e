// Backward passes of the operations in this folder, in F32 or F64. dy is the gradient of the loss with respect to an
// operation's result; what comes back is the gradient with respect to its input, in ctx.workspace. Gradients of
// parameters are added to Weight::grad. Products of a linear's backward pass are dgrad (backward_input) and wgrad
// (backward_weight). With Activations::kBf16 they round their factors to BF16, as the forward pass does.
#pragma once

#include <span>

#include "hadal/core/row_range.h"
#include "hadal/ops/experts.h"
#include "hadal/ops/rope.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// y = x W^T: dx [T, K] = dy [T, N] W; of several products of one x the sum, in their order.
TensorRef linear_backward_input(Context& ctx, const ConstTensorRef& dy, const Weight& w);
TensorRef linear_all_backward_input(Context& ctx, std::initializer_list<ConstTensorRef> dy,
                                    std::initializer_list<const Weight*> weights);
// w.grad [N, K] += dy^T x; of several products of one x each its own.
void linear_backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const Weight& w);
void linear_all_backward_weight(Context& ctx, std::initializer_list<ConstTensorRef> dy, const ConstTensorRef& x,
                                std::initializer_list<const Weight*> weights);

// The same with factors never rounded: for the router.
TensorRef linear_unrounded_backward_input(Context& ctx, const ConstTensorRef& dy, const Weight& w);
void linear_unrounded_backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const Weight& w);

// inverse_rms [T] is what rms_norm has saved.
TensorRef rms_norm_backward_input(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const Weight& w,
                                  const ConstTensorRef& inverse_rms);
void rms_norm_backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x,
                              const ConstTensorRef& inverse_rms, const Weight& w);

// Of silu(gate) * up, and the same again for W_down's gradient.
struct SwigluGradients {
  TensorRef gate, up;  // [T, D], side by side in memory
  TensorRef inner;     // [T, D]: silu(gate) * up, times the row's weight if there are weights
  TensorRef weights;   // [T] or empty
};
// d_inner [T, D]: the gradient before the rows' weights [T], which may be empty.
SwigluGradients swiglu_backward(Context& ctx, const ConstTensorRef& gate, const ConstTensorRef& up,
                                const ConstTensorRef& d_inner, const ConstTensorRef& weights);

// A rotation: its gradient is rotated back.
TensorRef rope_backward(Context& ctx, const ConstTensorRef& dy, const RopeTable& table);

// Causal attention within each sequence of rows, in the expanded form: q [T, H, nope + rope], kv [T, H, nope + v] and
// k_pe [T, rope]. The forward pass in F32 has the bits of attend_expanded.
struct Attended {
  TensorRef out;  // [T, H, v]
  TensorRef lse;  // [T, H]
};
Attended attend_sequences(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                          std::span<const RowRange> sequences, double scale);
struct AttentionGradients {
  TensorRef q, kv, k_pe;
  TensorRef largest;  // [sequences, H]: the largest scaled score of each
};
// No matrix of queries by keys is kept: scores are made again from lse.
AttentionGradients attend_backward(Context& ctx, const ConstTensorRef& d_out, const ConstTensorRef& q,
                                   const ConstTensorRef& kv, const ConstTensorRef& k_pe, const ConstTensorRef& out,
                                   const ConstTensorRef& lse, std::span<const RowRange> sequences, double scale);

// The sum over `sequences` of f . P (report, equations 17-20), to be multiplied by alpha; f, of the unbiased choice
// without groups, goes to load [sequences, E].
double balance_loss(Context& ctx, const ConstTensorRef& logits, const GateRule& rule,
                    std::span<const RowRange> sequences, const TensorRef& load);
// d_logits [T, E] through the weights of the chosen experts, d_weights [T, K], and through P of `balance` times
// balance_loss (equation 18: f is a constant).
TensorRef gate_backward(Context& ctx, const ConstTensorRef& d_weights, const ConstTensorRef& logits,
                        const Selection& chosen, const GateRule& rule, std::span<const RowRange> sequences,
                        const ConstTensorRef& load, double balance);

// table.grad += rows of dy, each by its id.
void embedding_backward(Context& ctx, const ConstTensorRef& dy, std::span<const std::int32_t> ids, const Weight& table);

// Cross-entropy of logits = hidden W^T, some rows at a time, so that never [T, vocab] is in memory: returns the sum
// over rows with a target (>= 0) of -log p, unscaled; d_hidden [T, D] and w.grad get the gradient of `scale` times it.
double cross_entropy(Context& ctx, const ConstTensorRef& hidden, const Weight& w, std::span<const std::int32_t> targets,
                     double scale, const TensorRef& d_hidden);

}  // namespace hadal::ops
