#include "hadal/ops/linear.h"

#include <algorithm>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/linear.h"
#include "hadal/ops/work.h"

namespace hadal::ops {
namespace {

// INT8 and INT4 have no fast kernels yet.
bool fast(const Context& ctx, DType weights) {
  return ctx.isa != Isa::kRef && weights != DType::kI8 && weights != DType::kI32;
}

kernels::LinearArgs arguments(const TensorRef& x, const Weight& w, const TensorRef& y) {
  kernels::LinearArgs a;
  a.x = x.data<float>();
  a.x_stride = x.stride(0);
  a.w = w.values.raw();
  a.w_dtype = w.values.dtype();
  a.w_stride = w.values.stride(0);
  if (w.scale) {
    a.w_scale = w.scale.raw();
    a.w_scale_dtype = w.scale.dtype();
    a.w_scale_stride = w.scale.stride(0);
    a.scale_rows = w.scale_rows;
    a.scale_columns = w.scale_columns;
    if (w.zero) a.w_zero = w.zero.data<std::uint8_t>();
    a.w_first_row = w.first_row;
  }
  a.y = y.data<float>();
  a.y_stride = y.stride(0);
  a.m = x.size(0);
  a.n = w.num_rows();
  a.k = w.num_columns();
  return a;
}

void check(const char* op, const TensorRef& x, const Weight& w) {
  HADAL_CHECK(x.rank() == 2 && w.values.rank() == 2 && x.size(1) == w.num_columns(),
              "{}: x has shape {}, the weight {}", op, x.shape().to_string(), w.values.shape().to_string());
  const DType dtype = w.values.dtype();
  const bool scaled = dtype == DType::kF8E4M3 || dtype == DType::kI8 || dtype == DType::kI32;
  HADAL_CHECK(scaled == static_cast<bool>(w.scale),
              "{}: F8_E4M3, I8 and packed INT4 weights have a scale, others have none; this one is {}", op,
              dtype_name(dtype));
}

void run(Context& ctx, const kernels::LinearArgs& a) {
  const Workspace::Scope scope(ctx.workspace);
  // Four pieces a thread even out foreign load; a piece is a multiple of the tiles' height.
  const Index grain = piece_size(ctx, a.n, a.m * a.k, 32);
  const bool is_fast = fast(ctx, a.w_dtype);
  const Index panel_floats = is_fast ? kernels::avx2::linear_panel_floats(a.k) : 0;
  const TensorRef panels = ctx.workspace.floats({ctx.threads.num_threads(), panel_floats});
  ctx.threads.parallel_for(a.n, grain, [&](Index begin, Index end) {
    if (is_fast)
      kernels::avx2::linear(a, begin, end, panels.data<float>() + ThreadPool::current_thread() * panel_floats);
    else
      kernels::ref::linear(a, begin, end);
  });
}

struct RoundedInput {
  TensorRef values;  // of the codes, unscaled
  TensorRef scale;   // [T, tiles]
};

RoundedInput round_to_fp8(Context& ctx, const TensorRef& x, bool ue8m0) {
  const Index rows = x.size(0), columns = x.size(1), tiles = num_blocks(columns);
  RoundedInput out{ctx.workspace.floats({rows, columns}), ctx.workspace.floats({rows, tiles})};
  const auto from = x.view<float, 2>(), to = out.values.view<float, 2>(), scale = out.scale.view<float, 2>();
  ctx.threads.parallel_for(rows, piece_size(ctx, rows, columns * 8, 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r)
      for (Index t = 0; t < tiles; ++t) {
        const Index c = t * kBlock;
        scale(r, t) =
            kernels::ref::quantize_tile(from.row(r) + c, nullptr, to.row(r) + c, std::min(kBlock, columns - c), ue8m0);
      }
  });
  return out;
}

}  // namespace

TensorRef linear_unrounded(Context& ctx, const TensorRef& x, const Weight& w) {
  check("linear", x, w);
  const TensorRef y = ctx.workspace.floats({x.size(0), w.num_rows()});
  run(ctx, arguments(x, w, y));
  return y;
}

TensorRef linear(Context& ctx, const TensorRef& x, const Weight& w, bool ue8m0) {
  if (w.values.dtype() != DType::kF8E4M3 || ctx.activations == Activations::kF32) return linear_unrounded(ctx, x, w);
  check("linear", x, w);
  const TensorRef y = ctx.workspace.floats({x.size(0), w.num_rows()});
  const RoundedInput rounded = round_to_fp8(ctx, x, ue8m0);
  kernels::LinearArgs a = arguments(rounded.values, w, y);
  a.x_scale = rounded.scale.data<float>();
  a.x_scale_stride = rounded.scale.stride(0);
  run(ctx, a);
  return y;
}

TensorRef absorb(Context& ctx, const TensorRef& x, const Weight& w, Index offset, Index stride) {
  const Index tokens = x.size(0), heads = x.size(1), rows = x.size(2);
  const TensorRef y = ctx.workspace.floats({tokens, heads, w.num_columns()});
  ctx.threads.parallel_for(heads, piece_size(ctx, heads, tokens * rows * w.num_columns(), 1),
                           [&](Index begin, Index end) {
                             for (Index h = begin; h < end; ++h) {
                               const Weight slice = w.rows(h * stride + offset, h * stride + offset + rows);
                               const TensorRef x_head = x.slice(1, h, h + 1), y_head = y.slice(1, h, h + 1);
                               kernels::LinearArgs a = arguments(x_head, slice, y_head);
                               if (fast(ctx, a.w_dtype))
                                 kernels::avx2::linear_transposed(a, 0, tokens);
                               else
                                 kernels::ref::linear_transposed(a, 0, tokens);
                             }
                           });
  return y;
}

TensorRef expand(Context& ctx, const TensorRef& x, const Weight& w, Index offset, Index stride, Index rows) {
  const Index tokens = x.size(0), heads = x.size(1);
  const TensorRef y = ctx.workspace.floats({tokens, heads, rows});
  const Workspace::Scope scope(ctx.workspace);
  const bool is_fast = fast(ctx, w.values.dtype());
  const Index panel_floats = is_fast ? kernels::avx2::linear_panel_floats(w.num_columns()) : 0;
  const TensorRef panels = ctx.workspace.floats({ctx.threads.num_threads(), panel_floats});
  ctx.threads.parallel_for(
      heads, piece_size(ctx, heads, tokens * rows * w.num_columns(), 1), [&](Index begin, Index end) {
        for (Index h = begin; h < end; ++h) {
          const Weight slice = w.rows(h * stride + offset, h * stride + offset + rows);
          const TensorRef x_head = x.slice(1, h, h + 1), y_head = y.slice(1, h, h + 1);
          const kernels::LinearArgs a = arguments(x_head, slice, y_head);
          if (is_fast)
            kernels::avx2::linear(a, 0, rows, panels.data<float>() + ThreadPool::current_thread() * panel_floats);
          else
            kernels::ref::linear(a, 0, rows);
        }
      });
  return y;
}

}  // namespace hadal::ops
