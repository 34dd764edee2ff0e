// Norms, activations and moves of rows. Float32 throughout, or double where everything is (exact gradients); results are
// in ctx.workspace unless a destination is given.
#pragma once

#include <span>

#include "hadal/core/context.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// y [T, D] = x / sqrt(mean(x^2) + eps) * weight; weight is F32 [D].
TensorRef rms_norm(Context& ctx, const ConstTensorRef& x, const ConstTensorRef& weight, double eps);

// y [T, D] = silu(gate) * up.
TensorRef swiglu(Context& ctx, const ConstTensorRef& gate, const ConstTensorRef& up);

// x [T, D] += y [T, D].
void add_in_place(Context& ctx, const TensorRef& x, const ConstTensorRef& y);

// Rows of a table [V, D] in any float dtype, as float32 [T, D]. Every id must be in [0, V).
TensorRef embedding(Context& ctx, const Weight& table, std::span<const std::int32_t> ids);

// y [T, A + B]: a and b side by side.
TensorRef concatenate(Context& ctx, const ConstTensorRef& a, const ConstTensorRef& b);

// y [T, H, A + B]: a [T, H, A] and b [T, H, B] side by side in every head.
TensorRef concatenate_heads(Context& ctx, const ConstTensorRef& a, const ConstTensorRef& b);

// y [T, D] = x [T, D], element for element.
void copy_rows(Context& ctx, const ConstTensorRef& x, const TensorRef& y);

// y [n, D]: the given rows of x.
TensorRef gather_rows(Context& ctx, const ConstTensorRef& x, std::span<const Index> rows);

// Any float dtype to float32 and back, element by element; the last dimension is contiguous, shapes are equal.
void to_float(Context& ctx, const ConstTensorRef& from, const TensorRef& to);
void from_float(Context& ctx, const ConstTensorRef& from, const TensorRef& to);

// A copy as float32 with its own memory on the host: for small parameters, at load.
Tensor float_copy(const ConstTensorRef& from);

}  // namespace hadal::ops
