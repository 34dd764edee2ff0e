#include "hadal/ops/expert_gradients.h"

#include <numeric>

#include "hadal/kernels/mixture.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/gradients.h"
#include "hadal/ops/real.h"

namespace hadal::ops {
namespace {

// f(expert, rows of it) for experts that some token chose.
template <class F>
void for_each_group(const ExpertGroups& groups, const F& f) {
  for (std::size_t e = 0; e + 1 < groups.begin.size(); ++e)
    if (groups.begin[e] < groups.begin[e + 1]) f(e, RowRange{groups.begin[e], groups.begin[e + 1]});
}

using Member = const Weight* FeedForwardRef::*;

// y [rows, N]: each expert's rows of x times its matrix, with the bits of `linear`.
TensorRef grouped_linear(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups,
                         std::span<const FeedForwardRef> experts, Member member) {
  return with_real(ctx, "experts", x.dtype(), [&]<class Real>(Real, const auto& kernels) {
    TensorRef y;
    std::vector<kernels::Product<Real>> products;
    for_each_group(groups, [&](std::size_t e, RowRange r) {
      const Weight& w = *(experts[e].*member);
      HADAL_CHECK(w.rank() == 2 && w.num_columns() == x.size(1), "experts: a weight has shape {}, not {} columns",
                  w.shape().to_string(), x.size(1));
      if (!y) y = ctx.workspace.tensor(x.dtype(), {x.size(0), w.num_rows()});
      products.push_back({.a = x.rows(r.begin, r.end).data_on<Real>(ctx.device),
                          .a_row = x.stride(0),
                          .b = w.values.data_on<Real>(ctx.device),
                          .b_row = 1,
                          .b_column = w.values.stride(0),
                          .y = y.rows(r.begin, r.end).data_on<Real>(ctx.device),
                          .y_stride = y.stride(0),
                          .m = r.count(),
                          .n = w.num_rows(),
                          .k = x.size(1)});
    });
    kernels.products(ctx, products);
    return y;
  });
}

// dx [rows, K]: the sum over products of each expert's rows of dy times its matrix.
TensorRef grouped_dgrad(Context& ctx, std::initializer_list<ConstTensorRef> all_dy, const ExpertGroups& groups,
                        std::span<const FeedForwardRef> experts, std::initializer_list<Member> members) {
  TensorRef dx;
  const Member* member = members.begin();
  for (const ConstTensorRef& dy : all_dy) {
    with_real(ctx, "experts", dy.dtype(), [&]<class Real>(Real, const auto& kernels) {
      std::vector<kernels::Product<Real>> products;
      for_each_group(groups, [&](std::size_t e, RowRange r) {
        const Weight& w = *(experts[e].**member);
        if (!dx) dx = ctx.workspace.tensor(dy.dtype(), {dy.size(0), w.num_columns()});
        products.push_back({.a = dy.rows(r.begin, r.end).data_on<Real>(ctx.device),
                            .a_row = dy.stride(0),
                            .b = w.values.data_on<Real>(ctx.device),
                            .b_row = w.values.stride(0),
                            .y = dx.rows(r.begin, r.end).data_on<Real>(ctx.device),
                            .y_stride = dx.stride(0),
                            .m = r.count(),
                            .n = w.num_columns(),
                            .k = w.num_rows(),
                            .add = member != members.begin()});
      });
      kernels.products(ctx, products);
    });
    ++member;
  }
  return dx;
}

// Each expert's gradient += its rows of dy, transposed, times its rows of x.
void grouped_wgrad(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const ExpertGroups& groups,
                   std::span<const FeedForwardRef> experts, Member member) {
  with_real(ctx, "experts", dy.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::Product<Real>> products;
    for_each_group(groups, [&](std::size_t e, RowRange r) {
      const Weight& w = *(experts[e].*member);
      products.push_back({.a = dy.rows(r.begin, r.end).data_on<Real>(ctx.device),
                          .a_row = 1,
                          .a_column = dy.stride(0),
                          .b = x.rows(r.begin, r.end).data_on<Real>(ctx.device),
                          .b_row = x.stride(0),
                          .y = w.grad.data_on<Real>(ctx.device),
                          .y_stride = w.grad.stride(0),
                          .m = w.num_rows(),
                          .n = w.num_columns(),
                          .k = r.count(),
                          .add = true});
    });
    kernels.products(ctx, products);
  });
}

// For every token and slot, its row.
std::vector<Index> rows_of(const ExpertGroups& groups, Index per_token) {
  return kernels::rows_of_slots(groups.token, groups.slot, per_token);
}

// y [T, D]: each token's rows of x, times weights if there are any, summed in the order of its slots.
TensorRef sum_slots(Context& ctx, const ConstTensorRef& x, const ExpertGroups& groups, Index tokens) {
  const Index k = x.size(0) / tokens;
  const std::vector<Index> rows = rows_of(groups, k);
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
  const Index tokens = u.size(0);
  const TensorRef out = ctx.workspace.tensor(u.dtype(), u.shape());
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef rows = gather_rows(ctx, u, saved.groups.token);
  saved.gate = grouped_linear(kept, rows, saved.groups, experts, &FeedForwardRef::gate_proj);
  saved.up = grouped_linear(kept, rows, saved.groups, experts, &FeedForwardRef::up_proj);
  const TensorRef y =
      grouped_linear(ctx, swiglu(ctx, saved.gate, saved.up), saved.groups, experts, &FeedForwardRef::down_proj);
  if (!is_double(u)) {
    copy_rows(ctx, combine_experts(ctx, y, saved.groups, chosen.weights), out);
    return out;
  }
  const Index k = chosen.weights.size(1);
  kernels::training_kernels<double>(ctx).combine(ctx, y.view_on<double, 2>(ctx.device), rows_of(saved.groups, k),
                                                 chosen.weights.view_on<double, 2>(ctx.device), k,
                                                 out.view_on<double, 2>(ctx.device));
  HADAL_CHECK(static_cast<Index>(saved.groups.token.size()) == tokens * k, "experts: {} rows for {} tokens",
              saved.groups.token.size(), tokens);
  return out;
}

ExpertGradients experts_backward_input(Context& ctx, const ConstTensorRef& d_out, const ConstTensorRef& weights,
                                       std::span<const FeedForwardRef> experts, const SavedExperts& saved) {
  ExpertGradients g;
  const ExpertGroups& groups = saved.groups;
  g.d_out = gather_rows(ctx, d_out, groups.token);
  const TensorRef d_inner = grouped_dgrad(ctx, {g.d_out}, groups, experts, {&FeedForwardRef::down_proj});
  const SwigluGradients s = swiglu_backward(ctx, saved.gate, saved.up, d_inner, to_groups(ctx, weights, groups));
  g.gate = s.gate;
  g.up = s.up;
  g.inner = s.inner;
  g.weights = to_slots(ctx, s.weights, groups, weights.shape());
  const TensorRef rows =
      grouped_dgrad(ctx, {s.gate, s.up}, groups, experts, {&FeedForwardRef::gate_proj, &FeedForwardRef::up_proj});
  g.u = sum_slots(ctx, rows, groups, d_out.size(0));
  return g;
}

void experts_backward_weight(Context& ctx, const ConstTensorRef& u, std::span<const FeedForwardRef> experts,
                             const SavedExperts& saved, const ExpertGradients& g) {
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef rows = gather_rows(ctx, u, saved.groups.token);
  grouped_wgrad(ctx, g.gate, rows, saved.groups, experts, &FeedForwardRef::gate_proj);
  grouped_wgrad(ctx, g.up, rows, saved.groups, experts, &FeedForwardRef::up_proj);
  grouped_wgrad(ctx, g.d_out, g.inner, saved.groups, experts, &FeedForwardRef::down_proj);
}

}  // namespace hadal::ops
