#include "hadal/ops/linear.h"

#include <vector>

#include "hadal/kernels/backend.h"
#include "hadal/ops/linear_args.h"
#include "hadal/ops/real.h"

namespace hadal::ops {
namespace {

// In double: nothing is rounded or quantised.
std::vector<TensorRef> multiply_double(Context& ctx, const ConstTensorRef& x, std::span<const Weight* const> weights) {
  std::vector<TensorRef> y;
  std::vector<kernels::Product<double>> products;
  for (const Weight* w : weights) {
    HADAL_CHECK(w->rank() == 2 && w->num_columns() == x.size(1), "linear: the weight has shape {}, not {} columns",
                w->shape().to_string(), x.size(1));
    y.push_back(ctx.workspace.tensor(DType::kF64, {x.size(0), w->num_rows()}));
    products.push_back({.a = x.data_on<double>(ctx.device),
                        .a_row = x.stride(0),
                        .b = w->values.data_on<double>(ctx.device),
                        .b_row = 1,
                        .b_column = w->values.stride(0),
                        .y = y.back().data_on<double>(ctx.device),
                        .y_stride = w->num_rows(),
                        .m = x.size(0),
                        .n = w->num_rows(),
                        .k = x.size(1)});
  }
  kernels::training_kernels<double>(ctx).products(ctx, products);
  return y;
}

std::vector<TensorRef> multiply(Context& ctx, const ConstTensorRef& x, std::span<const Weight* const> weights,
                                Activations activations, bool ue8m0) {
  HADAL_CHECK(x.rank() == 2, "linear: x has shape {}, not [T, K]", x.shape().to_string());
  if (is_double(x)) return multiply_double(ctx, x, weights);
  std::vector<TensorRef> y;
  std::vector<kernels::LinearArgs> args;
  for (const Weight* w : weights) {
    check_matrix("linear", "the weight", *w, x.size(1));
    y.push_back(ctx.workspace.floats({x.size(0), w->num_rows()}));
    args.push_back(linear_args(ctx, "linear", x, *w, y.back()));
    args.back().activations = activations;
  }
  if (x.size(0) > 0) kernels::backend(ctx).linear(ctx, args, ue8m0);
  return y;
}

TensorRef multiply(Context& ctx, const ConstTensorRef& x, const Weight& w, Activations activations, bool ue8m0) {
  const Weight* one = &w;
  return multiply(ctx, x, std::span(&one, 1), activations, ue8m0)[0];
}

WorkspaceNeed multiply_need(const Context& ctx, Index rows, std::span<const Weight* const> weights,
                            Activations activations) {
  WorkspaceNeed need;
  std::vector<kernels::LinearArgs> args;
  for (const Weight* w : weights) {
    need.floats(rows * w->num_rows());
    args.push_back(weight_args(ctx, "linear", *w));
    args.back().m = rows;
    args.back().activations = activations;
  }
  if (rows > 0) need.within(kernels::backend(ctx).linear_need(ctx, args));
  return need;
}

WorkspaceNeed multiply_need(const Context& ctx, Index rows, const Weight& w, Activations activations) {
  const Weight* one = &w;
  return multiply_need(ctx, rows, std::span(&one, 1), activations);
}

Activations not_fp8(const Context& ctx) {
  return ctx.numerics.activations == Activations::kFp8 ? Activations::kF32 : ctx.numerics.activations;
}

// Rows [h * stride + offset, + rows) of w for each of `heads` heads; x [T, heads, .], y [T, heads, .].
kernels::HeadsArgs heads_args(const Context& ctx, const char* op, const ConstTensorRef& x, const Weight& w,
                              Index offset, Index stride, Index rows, const TensorRef& y) {
  const Index heads = x.size(1), last = (heads - 1) * stride + offset + rows;
  HADAL_CHECK(offset >= 0 && rows >= 0 && stride >= 0 && last <= w.num_rows(),
              "{}: {} heads of {} rows at {}, {} apart, do not fit the weight {}", op, heads, rows, offset, stride,
              w.shape().to_string());
  Weight first = w.rows(offset, offset + rows);
  if (stride % kGroupRows != 0) first = rows_form(op, first);
  return {.first = linear_args(ctx, op, x.slice(1, 0, 1), first, y.slice(1, 0, 1)),
          .heads = heads,
          .x_stride = x.stride(1),
          .y_stride = y.stride(1),
          .w_rows = stride};
}

}  // namespace

TensorRef linear(Context& ctx, const ConstTensorRef& x, const Weight& w, bool ue8m0) {
  return multiply(ctx, x, w, ctx.numerics.activations, ue8m0);
}

std::vector<TensorRef> linear_all(Context& ctx, const ConstTensorRef& x, std::initializer_list<const Weight*> weights,
                                  bool ue8m0) {
  return multiply(ctx, x, weights, ctx.numerics.activations, ue8m0);
}

TensorRef linear_not_fp8(Context& ctx, const ConstTensorRef& x, const Weight& w) {
  return multiply(ctx, x, w, not_fp8(ctx), false);
}

TensorRef linear_unrounded(Context& ctx, const ConstTensorRef& x, const Weight& w) {
  return multiply(ctx, x, w, Activations::kF32, false);
}

WorkspaceNeed linear_need(const Context& ctx, Index rows, std::initializer_list<const Weight*> weights) {
  return multiply_need(ctx, rows, weights, ctx.numerics.activations);
}

WorkspaceNeed linear_not_fp8_need(const Context& ctx, Index rows, const Weight& w) {
  return multiply_need(ctx, rows, w, not_fp8(ctx));
}

WorkspaceNeed linear_unrounded_need(const Context& ctx, Index rows, const Weight& w) {
  return multiply_need(ctx, rows, w, Activations::kF32);
}

TensorRef absorb(Context& ctx, const ConstTensorRef& x, const Weight& w, Index offset, Index stride) {
  HADAL_CHECK(x.rank() == 3, "absorb: x has shape {}, not [T, H, D]", x.shape().to_string());
  check_matrix("absorb", "the weight", w, w.num_columns());
  const TensorRef y = ctx.workspace.floats({x.size(0), x.size(1), w.num_columns()});
  if (y.num_elements() > 0)
    kernels::backend(ctx).absorb(ctx,
                                 heads_args(ctx, "absorb", x, rows_form("absorb", w), offset, stride, x.size(2), y));
  return y;
}

void expand(Context& ctx, const ConstTensorRef& x, const Weight& w, Index offset, Index stride, const TensorRef& y) {
  HADAL_CHECK(x.rank() == 3 && y.rank() == 3 && y.size(0) == x.size(0) && y.size(1) == x.size(1),
              "expand: x has shape {}, not [T, H, C], or y {} not [T, H, D]", x.shape().to_string(),
              y.shape().to_string());
  check_matrix("expand", "the weight", w, x.size(2));
  if (y.num_elements() > 0)
    kernels::backend(ctx).expand(ctx, heads_args(ctx, "expand", x, w, offset, stride, y.size(2), y));
}

WorkspaceNeed absorb_need(Index rows, Index heads, const Weight& w) {
  WorkspaceNeed need;
  need.floats(rows * heads * w.num_columns());
  return need;
}

WorkspaceNeed expand_need(const Context& ctx, Index rows, const Weight& w, Index offset, Index head_rows) {
  kernels::LinearArgs head = weight_args(ctx, "expand", w.rows(offset, offset + head_rows));
  head.m = rows;
  WorkspaceNeed need;
  need.within(kernels::backend(ctx).expand_need(ctx, head));
  return need;
}

}  // namespace hadal::ops
