// What an optimiser does to parameters, in place, in F32 or F64: many tensors at a time, all of one dtype and
// contiguous. State is F32, BF16 or F64. Bits depend neither on threads nor on what is done together.
#pragma once

#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/kernels/optimizer.h"

namespace hadal::ops {

using kernels::AdamWFactors;
using kernels::MomentumFactors;

// Of each tensor, summed in double in one order.
std::vector<double> sums_of_squares(Context& ctx, std::span<const ConstTensorRef> tensors);

struct AdamWTensors {
  ConstTensorRef grad;
  TensorRef first, second, value;
  double decay = 1;  // 1 - learning rate * weight decay
};
void adamw(Context& ctx, const AdamWFactors& factors, std::span<const AdamWTensors> tensors);

struct MomentumTensors {
  ConstTensorRef grad;
  TensorRef momentum, update;
};
void momentum(Context& ctx, const MomentumFactors& factors, std::span<const MomentumTensors> tensors);

// y = of_x x + of_y y.
struct Blend {
  ConstTensorRef x;
  double of_x = 1;
  TensorRef y;
  double of_y = 1;
};
void blend(Context& ctx, std::span<const Blend> blends);

// Every matrix becomes about the nearest one with orthonormal rows, or columns if it has fewer of them: `steps` steps
// of Newton and Schulz with the polynomial a x + b x^3 + c x^5, which takes singular values to about 0.7 to 1.2, after
// division by its Frobenius norm, at least eps (arXiv 2502.16982, section 2.1).
struct NewtonSchulz {
  double a = 3.4445, b = -4.7750, c = 2.0315;
  int steps = 5;
  double eps = 1e-7;
};
void orthogonalize(Context& ctx, const NewtonSchulz& rule, std::span<const TensorRef> matrices);
// What of ctx.workspace that takes for a matrix.
std::uint64_t orthogonalize_bytes(const ConstTensorRef& matrix);

}  // namespace hadal::ops
