// What training computes beside the forward pass, in float and in double; and the forward pass in double, which nothing
// but gradients that are to be exact needs. One function per operation on plain pointers, like kernels/backend.h.
// Results are written, not added to, unless a name says so. Whatever is summed is summed in one order, so that bits do
// not depend on the number of threads.
#pragma once

#include <span>

#include "hadal/core/number_formats.h"
#include "hadal/core/row_range.h"
#include "hadal/kernels/gate.h"
#include "hadal/kernels/optimizer.h"

namespace hadal::kernels {

// y [m, n] = a [m, k] b [k, n], or y += with `add`; strides in elements, one of each factor's is 1. All three kinds of
// product of a linear are such: y = x W^T, dx = dy W (dgrad), dW = dy^T x (wgrad). With a_lines, line i of a in memory
// (its rows, or its columns if rows are what lies 1 apart) is line a_lines[i] of `a`; so of b. Lines are tokens then.
template <class Real>
struct Product {
  const Real* a = nullptr;
  Index a_row = 0, a_column = 1;
  const Index* a_lines = nullptr;
  const Real* b = nullptr;
  Index b_row = 0, b_column = 1;
  const Index* b_lines = nullptr;
  Real* y = nullptr;
  Index y_stride = 0;
  Index m = 0, n = 0, k = 0;
  bool add = false;
  bool to_bf16 = false;  // both factors are rounded to BF16 first, to nearest even; sums stay what they are

  const Real* a_line(Index i) const { return a + (a_lines ? a_lines[i] : i) * (a_row == 1 ? a_column : a_row); }
  const Real* b_line(Index i) const { return b + (b_lines ? b_lines[i] : i) * (b_column == 1 ? b_row : b_column); }
  Real a_at(Index i, Index l) const { return rounded(a_row == 1 ? a_line(l)[i] : a_line(i)[l]); }
  Real b_at(Index l, Index j) const { return rounded(b_column == 1 ? b_line(l)[j] : b_line(j)[l]); }
  Real rounded(Real x) const {
    return to_bf16 ? static_cast<Real>(bf16_to_float(float_to_bf16(static_cast<float>(x)))) : x;
  }
};

// Causal attention of whole sequences in the expanded form: row t of a sequence sees the rows of it up to itself.
template <class Real>
struct CausalAttention {
  View<const Real, 3> q;     // [T, H, nope + rope]
  View<const Real, 3> kv;    // [T, H, nope + v]: k_nope and v side by side
  View<const Real, 2> k_pe;  // [T, rope], shared by the heads
  Real scale = 1;            // of the scores
  std::span<const RowRange> sequences = {};

  Index rope() const { return k_pe.shape[1]; }
  Index nope() const { return q.shape[2] - rope(); }
  Index v() const { return kv.shape[2] - nope(); }
  Index heads() const { return q.shape[1]; }
};

template <class Real>
struct AttentionGradient {
  View<const Real, 3> out, d_out;  // [T, H, v]
  View<const Real, 2> lse;         // [T, H]: log of the sum of exp(score)
  View<Real, 3> d_q;               // [T, H, nope + rope]
  View<Real, 3> d_kv;              // [T, H, nope + v]
  View<Real, 3> d_k_pe;            // [T, H, rope]: each head's part
  View<Real, 2> largest = {};      // [sequences, H]: the largest score, scaled; or null
};

// One row for each (token, slot), in the order of ExpertGroups: what SwiGLU and the weight of the slot are to the loss.
//   inner = silu(gate) * up;  the network's output is weight * (W_down inner), and d_inner = W_down^T d_out
// of which the caller has d_inner without the weight.
template <class Real>
struct SwigluGradient {
  View<const Real, 2> gate, up, d_inner;
  const Real* weight = nullptr;  // [rows], or nullptr: 1
  View<Real, 2> d_gate, d_up;
  View<Real, 2> weighted_inner;  // weight * inner, which W_down's gradient is made of
  Real* d_weight = nullptr;      // [rows], with `weight`: inner . d_inner
};

template <class Real>
struct GateGradient {
  View<const Real, 2> logits;           // [T, E]
  View<const std::int32_t, 2> experts;  // [T, K], chosen
  View<const Real, 2> d_weights;        // [T, K]
  View<const Real, 2> load;             // [sequences, E]: f of equation 18
  std::span<const RowRange> sequences;  // all rows
  double balance = 0;                   // what the sum over sequences of f . P is multiplied by in the loss
  View<Real, 2> d_logits;               // [T, E]
};

// The sum over sequences of f . P (equations 17-20), with f of unbiased scores without groups.
template <class Real>
struct BalanceArgs {
  View<const Real, 2> logits;
  std::span<const RowRange> sequences;
  View<Real, 2> load;  // [sequences, E], written: f
};

template <class Real>
struct TrainingKernels {
  // Independent of one another.
  void (*products)(Context& ctx, std::span<const Product<Real>> products);
  void (*attend)(Context& ctx, const CausalAttention<Real>& args, View<Real, 3> out, View<Real, 2> lse);
  void (*attend_backward)(Context& ctx, const CausalAttention<Real>& args, const AttentionGradient<Real>& gradient);
  // inverse_rms [T].
  void (*rms_norm)(Context& ctx, View<const Real, 2> x, const Real* weight, double eps, View<Real, 2> y,
                   Real* inverse_rms);
  void (*rms_norm_backward)(Context& ctx, View<const Real, 2> dy, View<const Real, 2> x, const Real* weight,
                            const Real* inverse_rms, View<Real, 2> dx);
  void (*add_rms_norm_weight)(Context& ctx, View<const Real, 2> dy, View<const Real, 2> x, const Real* inverse_rms,
                              Real* d_weight);
  void (*swiglu)(Context& ctx, View<const Real, 2> gate, View<const Real, 2> up, View<Real, 2> y);
  void (*swiglu_backward)(Context& ctx, const SwigluGradient<Real>& args);
  void (*add)(Context& ctx, View<const Real, 2> x, View<Real, 2> y);  // y += x
  void (*copy)(Context& ctx, View<const Real, 3> x, View<Real, 3> y);
  void (*rope)(Context& ctx, View<const Real, 3> x, View<const double, 2> cos, View<const double, 2> sin, bool inverse,
               View<Real, 3> y);
  void (*sum_heads)(Context& ctx, View<const Real, 3> x, View<Real, 2> y);  // y [T, D] = sum over h of x [T, H, D]
  void (*gather)(Context& ctx, View<const Real, 2> x, std::span<const Index> rows, View<Real, 2> y);
  // y [T, D] = sum over s, ascending, of weights[t, s] * x[rows[t * k + s]]; weights' data may be null: 1.
  void (*combine)(Context& ctx, View<const Real, 2> x, std::span<const Index> rows, View<const Real, 2> weights,
                  Index k, View<Real, 2> y);
  // d_table [V, D] += rows of dy by their ids, ascending.
  void (*add_embedding)(Context& ctx, View<const Real, 2> dy, std::span<const std::int32_t> ids, View<Real, 2> d_table);
  void (*gate)(Context& ctx, const GateArgs& args, View<const Real, 2> logits, View<std::int32_t, 2> experts,
               View<Real, 2> weights);
  void (*gate_backward)(Context& ctx, const GateArgs& args, const GateGradient<Real>& gradient);
  double (*balance)(Context& ctx, const GateArgs& args, const BalanceArgs<Real>& balance);
  // Row by row: logits become scale * (softmax(logits) - onehot(target)), zeros where the target is negative; `losses`
  // gets log-sum-exp - logit of the target, or 0.
  void (*cross_entropy)(Context& ctx, View<Real, 2> logits, std::span<const std::int32_t> targets, double scale,
                        double* losses);
  // See optimizer.h. `moments` is the dtype of all state.
  void (*sums_of_squares)(Context& ctx, std::span<const SquaresPart<Real>> parts, double* sums);
  void (*adamw)(Context& ctx, const AdamWFactors& factors, DType moments, std::span<const AdamWPart<Real>> parts);
  void (*momentum)(Context& ctx, const MomentumFactors& factors, DType moments,
                   std::span<const MomentumPart<Real>> parts);
  void (*blend)(Context& ctx, std::span<const BlendPart<Real>> parts);
};

// By the context's device and instruction set.
template <class Real>
const TrainingKernels<Real>& training_kernels(const Context& ctx);

namespace ref {
extern const TrainingKernels<float> kTrainingFloat;
extern const TrainingKernels<double> kTrainingDouble;
}  // namespace ref

}  // namespace hadal::kernels
