#include "hadal/kernels/mixture.h"

#include "hadal/core/context.h"
#include "hadal/kernels/backend.h"

namespace hadal::kernels {
namespace {

template <class T>
View<T, 2> rows_of(View<T, 2> v, Index begin, Index end) {
  v.data += begin * v.stride[0];
  v.shape[0] = end - begin;
  return v;
}

View<const float, 2> read_only(View<float, 2> v) {
  return {v.data, v.shape, v.stride};
}

// One of a network's products for rows x; its result is in ctx.workspace.
View<float, 2> product(Context& ctx, const Backend& backend, LinearArgs a, View<const float, 2> x, bool ue8m0) {
  const View<float, 2> y = ctx.workspace.floats({x.shape[0], a.n}).view<float, 2>();
  a.x = x.data;
  a.x_stride = x.stride[0];
  a.m = x.shape[0];
  a.y = y.data;
  a.y_stride = y.stride[0];
  backend.linear(ctx, std::span(&a, 1), ue8m0);
  return y;
}

View<float, 2> feed_forward(Context& ctx, const Backend& backend, const NetworkArgs& n, View<const float, 2> x,
                            bool ue8m0) {
  const View<float, 2> gate = product(ctx, backend, n.gate, x, ue8m0), up = product(ctx, backend, n.up, x, ue8m0);
  const View<float, 2> inner = ctx.workspace.floats({x.shape[0], n.gate.n}).view<float, 2>();
  backend.swiglu(ctx, read_only(gate), read_only(up), inner);
  return product(ctx, backend, n.down, read_only(inner), ue8m0);
}

View<const float, 3> one_head(View<const float, 2> v) {
  return {v.data, {v.shape[0], 1, v.shape[1]}, {v.stride[0], v.shape[1], 1}};
}
View<float, 3> one_head(View<float, 2> v) {
  return {v.data, {v.shape[0], 1, v.shape[1]}, {v.stride[0], v.shape[1], 1}};
}

WorkspaceNeed product_need(const Context& ctx, const Backend& backend, LinearArgs a, Index rows) {
  a.m = rows;
  WorkspaceNeed need;
  need.floats(rows * a.n);
  need.within(backend.linear_need(ctx, std::span(&a, 1)));
  return need;
}

WorkspaceNeed feed_forward_need(const Context& ctx, const Backend& backend, const NetworkArgs& n, Index rows) {
  WorkspaceNeed need = product_need(ctx, backend, n.gate, rows);
  need.then(product_need(ctx, backend, n.up, rows));
  need.floats(rows * n.gate.n);
  need.then(product_need(ctx, backend, n.down, rows));
  return need;
}

}  // namespace

WorkspaceNeed plain_mixture_need(const Context& ctx, const Backend& backend, const MixtureSizes& s) {
  WorkspaceNeed need;
  for (int i = 0; i < 2; ++i) need.floats(s.rows() * s.width);
  // All tokens may choose the same one.
  for (const NetworkArgs& n : s.forms) need.within(feed_forward_need(ctx, backend, n, s.tokens));
  if (s.shared) need.within(feed_forward_need(ctx, backend, *s.shared, s.tokens));
  return need;
}

void plain_mixture(Context& ctx, const Backend& backend, const MixtureArgs& a) {
  const Workspace::Scope scope(ctx.workspace);
  const auto rows = static_cast<Index>(a.tokens.size());
  const View<float, 2> gathered = ctx.workspace.floats({rows, a.x.shape[1]}).view<float, 2>(),
                       y = ctx.workspace.floats({rows, a.out.shape[1]}).view<float, 2>();
  backend.gather(ctx, a.x, a.tokens, gathered);
  for (const NetworkArgs& n : a.networks) {
    const Workspace::Scope of_network(ctx.workspace);
    const View<float, 2> out = feed_forward(ctx, backend, n, read_only(rows_of(gathered, n.begin, n.end)), a.ue8m0);
    backend.copy(ctx, one_head(read_only(out)), one_head(rows_of(y, n.begin, n.end)));
  }
  backend.combine(ctx, {read_only(y), a.weights, a.tokens, a.slots, a.out});
  if (a.shared) backend.add(ctx, read_only(feed_forward(ctx, backend, *a.shared, a.x, a.ue8m0)), a.out);
}

}  // namespace hadal::kernels
