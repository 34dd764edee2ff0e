#include "hadal/kernels/fp8_input.h"
#include "hadal/kernels/ref/schedule.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels::ref {

void linear(Context& ctx, std::span<const LinearArgs> products, bool ue8m0) {
  const Workspace::Scope scope(ctx.workspace);
  for (const LinearArgs& a : with_fp8_inputs(ctx, products, ue8m0))
    ctx.threads.parallel_for(a.n, piece_size(ctx, a.n, a.m * a.k, 8),
                             [&](Index begin, Index end) { linear(a, begin, end); });
}

WorkspaceNeed linear_need(const Context&, std::span<const LinearArgs> products) {
  return fp8_inputs_need(products);
}

WorkspaceNeed expand_need(const Context&, const LinearArgs&) {
  return {};
}

void absorb(Context& ctx, const HeadsArgs& args) {
  const LinearArgs& a = args.first;
  ctx.threads.parallel_for(args.heads, piece_size(ctx, args.heads, a.m * a.n * a.k, 1), [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h) linear_transposed(head_args(args, h), 0, a.m);
  });
}

void expand(Context& ctx, const HeadsArgs& args) {
  const LinearArgs& a = args.first;
  ctx.threads.parallel_for(args.heads, piece_size(ctx, args.heads, a.m * a.n * a.k, 1), [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h) linear(head_args(args, h), 0, a.n);
  });
}

}  // namespace hadal::kernels::ref
