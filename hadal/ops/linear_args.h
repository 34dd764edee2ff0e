// How a Weight becomes the arguments of a kernel. Internal to ops.
#pragma once

#include "hadal/core/context.h"
#include "hadal/kernels/linear.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// What concerns the weight; x, y, m and how x is rounded are left empty.
kernels::LinearArgs weight_args(const Context& ctx, const Weight& w);

// x [m, k], y [m, n].
kernels::LinearArgs linear_args(const Context& ctx, const ConstTensorRef& x, const Weight& w, const TensorRef& y);

// The layout that the kernels of an instruction set read beside rows; kRows: no other.
constexpr Layout grouped_layout(Isa isa) {
  return isa == Isa::kRef ? Layout::kRows : isa == Isa::kAvx2 ? Layout::kGroups32 : Layout::kGroups64;
}

// Throws if w lies in another layout than `isa` reads.
void check_layout(const char* op, const Weight& w, Isa isa);

// Whether w is a matrix of `columns` columns whose scale grid fits its format.
bool is_matrix(const Weight& w, Index columns);

// Throws if it is not; `what` names the weight.
void check_matrix(const char* op, const char* what, const Weight& w, Index columns);

}  // namespace hadal::ops
