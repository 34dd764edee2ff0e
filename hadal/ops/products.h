// Products of training as they are handed to the kernels: those that follow one another in memory become one, as the
// gate and up projections of a network do where train/parameters laid them side by side. Internal to ops.
#pragma once

#include <vector>

#include "hadal/core/context.h"
#include "hadal/kernels/training.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// What products of training read of a weight.
template <class Real>
const Real* factor(const Context& ctx, const Weight& w) {
  return (w.master ? w.master : w.values).template data_on<Real>(ctx.device);
}
// Whether linears, forward and backward, round their factors: weights that are held in BF16, and activations with them.
inline bool in_bf16(const Context& ctx) {
  return ctx.numerics.activations == Activations::kBf16;
}

// Makes `next` a part of p if it is its continuation: more rows of y from the same b, more columns from the same a, or
// more of k added to the same y.
template <class Real>
bool merge(kernels::Product<Real>& p, const kernels::Product<Real>& next) {
  const bool same_a = p.a_row == next.a_row && p.a_column == next.a_column && p.a_lines == next.a_lines;
  const bool same_b = p.b_row == next.b_row && p.b_column == next.b_column && p.b_lines == next.b_lines;
  if (!same_a || !same_b || p.y_stride != next.y_stride || p.to_bf16 != next.to_bf16) return false;
  if (p.k == next.k && p.n == next.n && p.add == next.add && p.b == next.b && p.a_row == 1 && next.a == p.a + p.m &&
      next.y == p.y + p.m * p.y_stride) {
    p.m += next.m;
    return true;
  }
  if (p.k == next.k && p.m == next.m && p.add == next.add && p.a == next.a && p.b_column != 1 && !p.b_lines &&
      next.b == p.b + p.n * p.b_column && next.y == p.y + p.n) {
    p.n += next.n;
    return true;
  }
  if (next.add && p.m == next.m && p.n == next.n && p.y == next.y && p.a_row != 1 && next.a == p.a + p.k &&
      p.b_column == 1 && !p.b_lines && next.b == p.b + p.k * p.b_row) {
    p.k += next.k;
    return true;
  }
  return false;
}

// All of them, those that add to the y of the one before after that.
template <class Real>
void multiply_all(Context& ctx, const kernels::TrainingKernels<Real>& kernels,
                  const std::vector<kernels::Product<Real>>& products) {
  std::vector<kernels::Product<Real>> first, second;
  for (const kernels::Product<Real>& p : products) {
    if (!first.empty() && merge(first.back(), p)) continue;
    const bool same_y = !first.empty() && p.add && p.y == first.back().y;
    (same_y ? second : first).push_back(p);
  }
  kernels.products(ctx, first);
  if (!second.empty()) kernels.products(ctx, second);
}

}  // namespace hadal::ops
