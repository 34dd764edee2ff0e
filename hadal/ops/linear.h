// Products with stored weights. Results are float32, in ctx.workspace, and have the same bits for any number of threads
// and for any number of rows computed together.
#pragma once

#include <initializer_list>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// y [T, N] = x [T, K] W^T, x rounded as ctx.numerics.activations says. With E4M3 weights, Activations::kFp8 rounds x to
// 1x128 tiles first (`ue8m0`: their scales to powers of two).
TensorRef linear(Context& ctx, const ConstTensorRef& x, const Weight& w, bool ue8m0 = false);
// Several weights applied to one input: as `linear` for each, but x is packed once and the threads meet once.
std::vector<TensorRef> linear_all(Context& ctx, const ConstTensorRef& x, std::initializer_list<const Weight*> weights,
                                  bool ue8m0 = false);
// The same, but Activations::kFp8 leaves x as it is: for kv_b_proj, whose input the reference inference code does not
// round.
TensorRef linear_not_fp8(Context& ctx, const ConstTensorRef& x, const Weight& w);
// The same with x never rounded: for the router.
TensorRef linear_unrounded(Context& ctx, const ConstTensorRef& x, const Weight& w);

// What they take of ctx.workspace, for a number of rows; results stay.
WorkspaceNeed linear_need(const Context& ctx, Index rows, std::initializer_list<const Weight*> weights);
WorkspaceNeed linear_not_fp8_need(const Context& ctx, Index rows, const Weight& w);
WorkspaceNeed linear_unrounded_need(const Context& ctx, Index rows, const Weight& w);

// y [T, H, C]: per head h, y[t, h] = x[t, h] W_h, where W_h [D, C] is rows [h * stride + offset, + D) of w. Folds W^UK
// of kv_b_proj into the query. x is [T, H, D].
TensorRef absorb(Context& ctx, const ConstTensorRef& x, const Weight& w, Index offset, Index stride);

// Writes y [T, H, D]: per head h, y[t, h] = W_h x[t, h], same slices W_h [D, C]; x is [T, H, C]. Applies W^UV to what
// absorbed attention gives.
void expand(Context& ctx, const ConstTensorRef& x, const Weight& w, Index offset, Index stride, const TensorRef& y);

WorkspaceNeed absorb_need(Index rows, Index heads, const Weight& w);
WorkspaceNeed expand_need(const Context& ctx, Index rows, const Weight& w, Index offset, Index head_rows);

}  // namespace hadal::ops
