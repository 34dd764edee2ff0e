// What an optimiser does: passes over gradients, state and values, many tensors in each. Bits do not depend on the
// number of threads, nor on which tensors are given together.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels {

// With g = gradient * grad:
//   first' = beta1 first + (1 - beta1) g;  second' = beta2 second + (1 - beta2) g^2
//   value' = decay value - correction first' / (sqrt(second') root + eps)
// Moments are rounded to their dtype after value' is made of them.
struct AdamWFactors {
  double beta1, beta2, eps;
  double correction;  // learning rate / (1 - beta1^t)
  double root;        // 1 / sqrt(1 - beta2^t)
  double gradient;
};
template <class Real>
struct AdamWPart {
  const Real* grad;
  void *first, *second;  // of dtype `moments`: F32, BF16 or F64
  Real* value;
  Index n;
  double decay;  // 1 - learning rate * weight decay
};

// With g = gradient * grad: momentum' = mu momentum + (1 - mu) g; update = (1 - mu) g + mu momentum' with `nesterov`,
// else momentum'.
struct MomentumFactors {
  double mu;
  double gradient;
  bool nesterov;
};
template <class Real>
struct MomentumPart {
  const Real* grad;
  void* momentum;
  Real* update;
  Index n;
};

// y = of_x x + of_y y + diagonal I; with of_y == 0 y is not read, and x may be nullptr: 0. The diagonal is that of a
// square matrix whose rows lie side by side.
template <class Real>
struct BlendPart {
  const Real* x;
  double of_x;
  Real* y;
  double of_y;
  Index n;
  double diagonal = 0;
};

inline constexpr Index kOptimizerPiece = 1 << 14;  // elements; sums are made piece by piece

// A piece of a part's elements.
struct OptimizerPiece {
  std::size_t part;
  Index begin, end;
};

// f(number of the piece, piece) for all pieces of all parts, in parallel; returns the pieces, part by part.
template <class Parts, class F>
std::vector<OptimizerPiece> for_pieces(Context& ctx, const Parts& parts, const F& f) {
  std::vector<OptimizerPiece> pieces;
  Index total = 0;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    total += parts[p].n;
    for (Index begin = 0; begin < parts[p].n; begin += kOptimizerPiece)
      pieces.push_back({p, begin, std::min(begin + kOptimizerPiece, parts[p].n)});
  }
  const auto count = static_cast<Index>(pieces.size());
  if (count == 0) return pieces;
  ctx.threads.parallel_for(count, total < kSmallWork ? count : 2, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) f(static_cast<std::size_t>(i), pieces[static_cast<std::size_t>(i)]);
  });
  return pieces;
}

template <class Real>
struct SquaresPart {
  const Real* x;
  Index n;
};

// sums[p] = the sum of the pieces' sums, in their order.
template <class Real, class F>
void sum_pieces(Context& ctx, std::span<const SquaresPart<Real>> parts, double* sums, const F& of_piece) {
  Index count = 0;
  for (const SquaresPart<Real>& p : parts) count += (p.n + kOptimizerPiece - 1) / kOptimizerPiece;
  std::vector<double> of_pieces(static_cast<std::size_t>(count));
  const auto pieces = for_pieces(ctx, parts, [&](std::size_t i, const OptimizerPiece& p) {
    of_pieces[i] = of_piece(parts[p.part].x + p.begin, p.end - p.begin);
  });
  std::fill_n(sums, parts.size(), 0.0);
  for (std::size_t i = 0; i < pieces.size(); ++i) sums[pieces[i].part] += of_pieces[i];
}

}  // namespace hadal::kernels
