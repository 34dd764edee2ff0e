#include "hadal/ops/expert_gradients.h"

#include "hadal/kernels/mixture.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/gradients.h"
#include "hadal/ops/products.h"
#include "hadal/ops/real.h"

namespace hadal::ops {
namespace {

using kernels::Product;

// f(weights of an expert, rows of it, the tokens of those rows), for experts that some token chose.
template <class F>
void for_each_group(const ExpertGroups& groups, std::span<const FeedForwardRef> experts, const F& f) {
  for (std::size_t e = 0; e + 1 < groups.begin.size(); ++e)
    if (groups.begin[e] < groups.begin[e + 1])
      f(experts[e], RowRange{groups.begin[e], groups.begin[e + 1]}, groups.token.data() + groups.begin[e]);
}

Index width_of(const ExpertGroups& groups, std::span<const FeedForwardRef> experts, Index columns) {
  Index width = 0;
  for_each_group(groups, experts, [&](const FeedForwardRef& e, RowRange, const Index*) {
    HADAL_CHECK(e && e.gate_proj->num_columns() == columns && e.up_proj->shape() == e.gate_proj->shape() &&
                    e.down_proj->num_rows() == columns && e.down_proj->num_columns() == e.gate_proj->num_rows(),
                "experts: an expert that was chosen has no weights for rows of {}", columns);
    width = e.gate_proj->num_rows();
  });
  return width;
}

// Rows r of x, or its rows `tokens` if they are given.
template <class Real>
Product<Real> with_a(const Context& ctx, const ConstTensorRef& x, RowRange r, const Index* tokens) {
  Product<Real> p;
  p.to_bf16 = in_bf16(ctx);
  p.a = x.data_on<Real>(ctx.device) + (tokens ? 0 : r.begin * x.stride(0));
  p.a_row = x.stride(0);
  p.a_lines = tokens;
  p.m = r.count();
  return p;
}

// y = x W^T for those rows.
template <class Real>
Product<Real> fprop(const Context& ctx, Product<Real> p, const Weight& w, RowRange r, const TensorRef& y) {
  p.b = factor<Real>(ctx, w);
  p.b_row = 1;
  p.b_column = w.values.stride(0);
  p.n = w.num_rows();
  p.k = w.num_columns();
  p.y = y.data_on<Real>(ctx.device) + r.begin * y.stride(0);
  p.y_stride = y.stride(0);
  return p;
}
// dx (+)= dy W.
template <class Real>
Product<Real> dgrad(const Context& ctx, Product<Real> p, const Weight& w, RowRange r, const TensorRef& dx, bool add) {
  p.b = factor<Real>(ctx, w);
  p.b_row = w.values.stride(0);
  p.n = w.num_columns();
  p.k = w.num_rows();
  p.y = dx.data_on<Real>(ctx.device) + r.begin * dx.stride(0);
  p.y_stride = dx.stride(0);
  p.add = add;
  return p;
}
// dW += dy^T x, rows of either being those of the group or the tokens.
template <class Real>
Product<Real> wgrad(const Context& ctx, const ConstTensorRef& dy, const Index* dy_tokens, const ConstTensorRef& x,
                    const Index* x_tokens, RowRange r, const Weight& w) {
  Product<Real> p;
  p.to_bf16 = in_bf16(ctx);
  p.a = dy.data_on<Real>(ctx.device) + (dy_tokens ? 0 : r.begin * dy.stride(0));
  p.a_row = 1;
  p.a_column = dy.stride(0);
  p.a_lines = dy_tokens;
  p.b = x.data_on<Real>(ctx.device) + (x_tokens ? 0 : r.begin * x.stride(0));
  p.b_row = x.stride(0);
  p.b_lines = x_tokens;
  p.y = w.grad.data_on<Real>(ctx.device);
  p.y_stride = w.grad.stride(0);
  p.m = w.num_rows();
  p.n = w.num_columns();
  p.k = r.count();
  p.add = true;
  return p;
}

// y [T, D]: each token's rows of x, times weights if there are any, summed in the order of its slots.
TensorRef sum_slots(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups, Index tokens) {
  const Index k = x.size(0) / tokens;
  const std::vector<Index> rows = kernels::rows_of_slots(groups.token, groups.slot, k);
  const TensorRef y = ctx.workspace.tensor(x.dtype(), {tokens, x.size(1)});
  with_real(ctx, "experts", x.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.combine(ctx, x.view_on<Real, 2>(ctx.device), rows, {nullptr, {}, {}}, k, y.view_on<Real, 2>(ctx.device));
  });
  return y;
}

// [T, K] of tokens and slots to [T K] in the order of the groups, or back.
TensorRef to_groups(Context& ctx, const ConstTensorRef& weights, const ExpertGroups& groups) {
  const TensorRef flat = ctx.workspace.tensor(weights.dtype(), {weights.num_elements()});
  with_real(ctx, "experts", weights.dtype(), [&]<class Real>(Real, const auto&) {
    const auto from = weights.view<Real, 2>();
    for (std::size_t i = 0; i < groups.token.size(); ++i) flat.data<Real>()[i] = from(groups.token[i], groups.slot[i]);
  });
  return flat;
}
TensorRef to_slots(Context& ctx, const ConstTensorRef& flat, const ExpertGroups& groups, const Shape& shape) {
  const TensorRef weights = ctx.workspace.tensor(flat.dtype(), shape);
  with_real(ctx, "experts", flat.dtype(), [&]<class Real>(Real, const auto&) {
    const auto to = weights.view<Real, 2>();
    for (std::size_t i = 0; i < groups.token.size(); ++i) to(groups.token[i], groups.slot[i]) = flat.data<Real>()[i];
  });
  return weights;
}

}  // namespace

TensorRef experts_forward(Context& ctx, Context& kept, const ConstTensorRef& u, const Selection& chosen,
                          std::span<const FeedForwardRef> experts, SavedExperts& saved) {
  saved.groups = group_by_expert(ctx, chosen, static_cast<Index>(experts.size()));
  const ExpertGroups& groups = saved.groups;
  const auto rows = static_cast<Index>(groups.token.size());
  const Index width = width_of(groups, experts, u.size(1)), k = chosen.weights.size(1);
  const TensorRef both = kept.workspace.tensor(u.dtype(), {rows, 2 * width});
  const TensorRef gate = both.columns(0, width), up = both.columns(width, 2 * width);
  saved.gate = gate;
  saved.up = up;
  const TensorRef out = ctx.workspace.tensor(u.dtype(), u.shape());
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef y = ctx.workspace.tensor(u.dtype(), {rows, u.size(1)});
  with_real(ctx, "experts", u.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<Product<Real>> first, second;
    for_each_group(groups, experts, [&](const FeedForwardRef& e, RowRange r, const Index* tokens) {
      first.push_back(fprop(ctx, with_a<Real>(ctx, u, r, tokens), *e.gate_proj, r, gate));
      first.push_back(fprop(ctx, with_a<Real>(ctx, u, r, tokens), *e.up_proj, r, up));
    });
    multiply_all(ctx, kernels, first);
    const TensorRef inner = swiglu(ctx, gate, up);
    for_each_group(groups, experts, [&](const FeedForwardRef& e, RowRange r, const Index*) {
      second.push_back(fprop(ctx, with_a<Real>(ctx, inner, r, nullptr), *e.down_proj, r, y));
    });
    multiply_all(ctx, kernels, second);
    kernels.combine(ctx, y.view_on<Real, 2>(ctx.device), kernels::rows_of_slots(groups.token, groups.slot, k),
                    chosen.weights.view_on<Real, 2>(ctx.device), k, out.view_on<Real, 2>(ctx.device));
  });
  return out;
}

ExpertGradients experts_backward_input(Context& ctx, const ConstTensorRef& d_out, const ConstTensorRef& weights,
                                       std::span<const FeedForwardRef> experts, const SavedExperts& saved) {
  ExpertGradients g;
  const ExpertGroups& groups = saved.groups;
  const Index rows = saved.gate.size(0);
  g.d_out = d_out;
  const TensorRef d_inner = ctx.workspace.tensor(d_out.dtype(), saved.gate.shape());
  with_real(ctx, "experts", d_out.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<Product<Real>> products;
    for_each_group(groups, experts, [&](const FeedForwardRef& e, RowRange r, const Index* tokens) {
      products.push_back(dgrad(ctx, with_a<Real>(ctx, d_out, r, tokens), *e.down_proj, r, d_inner, false));
    });
    multiply_all(ctx, kernels, products);
  });
  const SwigluGradients s = swiglu_backward(ctx, saved.gate, saved.up, d_inner, to_groups(ctx, weights, groups));
  g.gate = s.gate;
  g.up = s.up;
  g.inner = s.inner;
  g.weights = to_slots(ctx, s.weights, groups, weights.shape());
  const TensorRef du = ctx.workspace.tensor(d_out.dtype(), {rows, d_out.size(1)});
  with_real(ctx, "experts", d_out.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<Product<Real>> products;
    for_each_group(groups, experts, [&](const FeedForwardRef& e, RowRange r, const Index*) {
      products.push_back(dgrad(ctx, with_a<Real>(ctx, s.gate, r, nullptr), *e.gate_proj, r, du, false));
      products.push_back(dgrad(ctx, with_a<Real>(ctx, s.up, r, nullptr), *e.up_proj, r, du, true));
    });
    multiply_all(ctx, kernels, products);
  });
  g.u = sum_slots(ctx, du, groups, d_out.size(0));
  return g;
}

void experts_backward_weight(Context& ctx, const ConstTensorRef& u, std::span<const FeedForwardRef> experts,
                             const SavedExperts& saved, const ExpertGradients& g) {
  with_real(ctx, "experts", u.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<Product<Real>> products;
    for_each_group(saved.groups, experts, [&](const FeedForwardRef& e, RowRange r, const Index* tokens) {
      products.push_back(wgrad<Real>(ctx, g.gate, nullptr, u, tokens, r, *e.gate_proj));
      products.push_back(wgrad<Real>(ctx, g.up, nullptr, u, tokens, r, *e.up_proj));
      products.push_back(wgrad<Real>(ctx, g.d_out, tokens, g.inner, nullptr, r, *e.down_proj));
    });
    multiply_all(ctx, kernels, products);
  });
}

}  // namespace hadal::ops
