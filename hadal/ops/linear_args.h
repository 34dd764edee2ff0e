// How a Weight becomes the arguments of a kernel. Internal to ops.
#pragma once

#include "hadal/core/context.h"
#include "hadal/kernels/linear.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// What concerns the weight, in the form that the context's back end reads; x, y, m and how x is rounded are left empty.
// Throws if there is none, and names both.
kernels::LinearArgs weight_args(const Context& ctx, const char* op, const Weight& w);

// x [m, k], y [m, n].
kernels::LinearArgs linear_args(const Context& ctx, const char* op, const ConstTensorRef& x, const Weight& w,
                                const TensorRef& y);

// The weight in its rows form alone. Throws if it has none.
Weight rows_form(const char* op, const Weight& w);

// Whether w is a matrix of `columns` columns whose scale grid fits its format.
bool is_matrix(const Weight& w, Index columns);

// Throws if it is not; `what` names the weight.
void check_matrix(const char* op, const char* what, const Weight& w, Index columns);

}  // namespace hadal::ops
