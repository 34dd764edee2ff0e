#include "hadal/ops/linear.h"

#include <algorithm>
#include <span>
#include <vector>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/linear.h"
#include "hadal/kernels/work.h"
#include "hadal/ops/product.h"

namespace hadal::ops {
namespace {

void check(const char* op, const TensorRef& x, const Weight& w) {
  HADAL_CHECK(x.rank() == 2 && w.values.rank() == 2 && x.size(1) == w.num_columns(),
              "{}: x has shape {}, the weight {}", op, x.shape().to_string(), w.values.shape().to_string());
  const DType dtype = w.values.dtype();
  const bool quantised = dtype == DType::kF8E4M3 || dtype == DType::kI8 || dtype == DType::kI32;
  HADAL_CHECK(quantised == static_cast<bool>(w.scale),
              "{}: F8_E4M3, I8 and I32 weights have a scale, others have none; this one is {}", op, dtype_name(dtype));
}

void pack(Context& ctx, const kernels::LinearKernels& k, const Product& p) {
  const Index tiles = k.num_tiles(p.args);
  ctx.threads.parallel_for(tiles, kernels::piece_size(ctx, tiles, p.args.k * 24, 1),
                           [&](Index begin, Index end) { k.pack(p.args, begin, end, 0, p.args.k, p.packed); });
}

void run_plain(Context& ctx, const kernels::LinearArgs& a) {
  ctx.threads.parallel_for(a.n, kernels::piece_size(ctx, a.n, a.m * a.k, 8),
                           [&](Index begin, Index end) { kernels::ref::linear(a, begin, end); });
}

// Products of one input, in one parallel loop over the columns of all of them.
void run(Context& ctx, std::span<const kernels::LinearArgs> all) {
  if (all[0].m == 0) return;
  if (ctx.isa == Isa::kRef) {
    for (const kernels::LinearArgs& a : all) run_plain(ctx, a);
    return;
  }
  const Workspace::Scope scope(ctx.workspace);
  const kernels::LinearKernels& k = kernels::linear_kernels(ctx.isa);
  std::vector<Product> products;
  std::vector<Index> piece_end;
  Index scratch_bytes = 0, work = 0;
  for (const kernels::LinearArgs& a : all) work += a.m * a.n * a.k;
  const Index grain = work < kernels::kSmallWork
                          ? work
                          : piece_columns(ctx, all, all[0].m <= 16 ? k.piece_columns : k.many_rows_piece_columns);
  for (const kernels::LinearArgs& a : all) {
    Product p{a, nullptr};
    for (const Product& earlier : products)
      if (same_packing(earlier.args, a)) p.packed = earlier.packed;
    if (!p.packed) {
      p = Product::make(ctx, a);
      pack(ctx, k, p);
    }
    products.push_back(p);
    piece_end.push_back((piece_end.empty() ? 0 : piece_end.back()) + (a.n + grain - 1) / grain);
    scratch_bytes = std::max(scratch_bytes, k.scratch_bytes(a));
  }
  const ThreadScratch scratch(ctx, scratch_bytes);
  ctx.threads.parallel_for(
      piece_end.back(), work < kernels::kSmallWork ? piece_end.back() : 1, [&](Index first, Index last) {
        for (Index piece = first; piece < last; ++piece) {
          const auto i =
              static_cast<std::size_t>(std::upper_bound(piece_end.begin(), piece_end.end(), piece) - piece_end.begin());
          const Product& p = products[i];
          const Index begin = (piece - (i ? piece_end[i - 1] : 0)) * grain, end = std::min(begin + grain, p.args.n);
          const void* next = end == p.args.n && i + 1 < products.size() ? products[i + 1].args.w : nullptr;
          k.multiply(p.args, p.packed, begin, end, next, scratch.mine());
        }
      });
}

void run(Context& ctx, const kernels::LinearArgs& a) {
  run(ctx, std::span(&a, 1));
}

struct RoundedInput {
  TensorRef values;  // of the codes, unscaled
  TensorRef scale;   // [T, tiles]
};

RoundedInput round_to_fp8(Context& ctx, const TensorRef& x, bool ue8m0) {
  const Index rows = x.size(0), columns = x.size(1), tiles = num_blocks(columns);
  RoundedInput out{ctx.workspace.floats({rows, columns}), ctx.workspace.floats({rows, tiles})};
  const auto from = x.view<float, 2>(), to = out.values.view<float, 2>(), scale = out.scale.view<float, 2>();
  ctx.threads.parallel_for(rows, kernels::piece_size(ctx, rows, columns * 8, 1), [&](Index begin, Index end) {
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
  run(ctx, linear_args(x, w, y));
  return y;
}

TensorRef linear_not_fp8(Context& ctx, const TensorRef& x, const Weight& w) {
  return ctx.activations == Activations::kFp8 ? linear_unrounded(ctx, x, w) : linear_all(ctx, x, {&w})[0];
}

std::vector<TensorRef> linear_all(Context& ctx, const TensorRef& x, std::initializer_list<const Weight*> weights,
                                  bool ue8m0) {
  std::vector<TensorRef> y;
  if (ctx.activations == Activations::kFp8) {
    for (const Weight* w : weights) y.push_back(linear(ctx, x, *w, ue8m0));
    return y;
  }
  std::vector<kernels::LinearArgs> args;
  for (const Weight* w : weights) {
    check("linear", x, *w);
    y.push_back(ctx.workspace.floats({x.size(0), w->num_rows()}));
    args.push_back(linear_args(x, *w, y.back()));
    args.back().activations = ctx.activations;
  }
  run(ctx, args);
  return y;
}

TensorRef linear(Context& ctx, const TensorRef& x, const Weight& w, bool ue8m0) {
  if (ctx.activations != Activations::kFp8) return linear_all(ctx, x, {&w}, ue8m0)[0];
  if (w.values.dtype() != DType::kF8E4M3) return linear_unrounded(ctx, x, w);
  check("linear", x, w);
  const TensorRef y = ctx.workspace.floats({x.size(0), w.num_rows()});
  const RoundedInput rounded = round_to_fp8(ctx, x, ue8m0);
  kernels::LinearArgs a = linear_args(rounded.values, w, y);
  a.x_scale = rounded.scale.data<float>();
  a.x_scale_stride = rounded.scale.stride(0);
  run(ctx, a);
  return y;
}

TensorRef absorb(Context& ctx, const TensorRef& x, const Weight& w, Index offset, Index stride) {
  HADAL_CHECK(!w.grouped, "absorb: the rows of this weight are grouped");
  const Index tokens = x.size(0), heads = x.size(1), rows = x.size(2);
  const TensorRef y = ctx.workspace.floats({tokens, heads, w.num_columns()});
  ctx.threads.parallel_for(
      heads, kernels::piece_size(ctx, heads, tokens * rows * w.num_columns(), 1), [&](Index begin, Index end) {
        for (Index h = begin; h < end; ++h) {
          const Weight slice = w.rows(h * stride + offset, h * stride + offset + rows);
          const kernels::LinearArgs a = linear_args(x.slice(1, h, h + 1), slice, y.slice(1, h, h + 1));
          if (ctx.isa == Isa::kRef)
            kernels::ref::linear_transposed(a, 0, tokens);
          else
            kernels::linear_kernels(ctx.isa).transposed(a, 0, a.k);
        }
      });
  return y;
}

void expand(Context& ctx, const TensorRef& x, const Weight& w, Index offset, Index stride, const TensorRef& y) {
  const Index tokens = x.size(0), heads = x.size(1), rows = y.size(2);
  HADAL_CHECK(y.shape() == Shape({tokens, heads, rows}), "expand: x has shape {}, y {}", x.shape().to_string(),
              y.shape().to_string());
  const Workspace::Scope scope(ctx.workspace);
  const auto args_of = [&](Index h) {
    return linear_args(x.slice(1, h, h + 1), w.rows(h * stride + offset, h * stride + offset + rows),
                       y.slice(1, h, h + 1));
  };
  const Index grain = kernels::piece_size(ctx, heads, tokens * rows * w.num_columns(), 1);
  if (ctx.isa == Isa::kRef) {
    ctx.threads.parallel_for(heads, grain, [&](Index begin, Index end) {
      for (Index h = begin; h < end; ++h) kernels::ref::linear(args_of(h), 0, rows);
    });
    return;
  }
  const kernels::LinearKernels& k = kernels::linear_kernels(ctx.isa);
  const kernels::LinearArgs first = args_of(0);
  const Index packed_bytes = (k.packed_bytes(first) + 63) / 64 * 64;
  const ThreadScratch scratch(ctx, packed_bytes + k.scratch_bytes(first));
  ctx.threads.parallel_for(heads, grain, [&](Index begin, Index end) {
    auto* packed = static_cast<std::byte*>(scratch.mine());
    for (Index h = begin; h < end; ++h) {
      const kernels::LinearArgs a = args_of(h);
      k.pack(a, 0, k.num_tiles(a), 0, a.k, packed);
      k.multiply(a, packed, 0, rows, h + 1 < heads ? args_of(h + 1).w : nullptr, packed + packed_bytes);
    }
  });
}

kernels::LinearArgs linear_args(const TensorRef& x, const Weight& w, const TensorRef& y) {
  kernels::LinearArgs a;
  a.x = x.data<float>();
  a.x_stride = x.stride(0);
  a.w = w.values.raw();
  a.w_dtype = w.values.dtype();
  a.w_stride = w.values.stride(0);
  a.w_grouped = w.grouped;
  if (w.scale) {
    a.w_scale = w.scale.raw();
    a.w_scale_dtype = w.scale.dtype();
    a.w_scale_stride = w.scale.stride(0);
    a.scale_rows = w.scale_rows;
    a.scale_columns = w.scale_columns;
    a.w_zero = w.zero ? static_cast<const std::uint8_t*>(w.zero.raw()) : nullptr;
    a.w_first_row = w.first_row;
    a.w_clean = w.clean;
  }
  a.y = y.data<float>();
  a.y_stride = y.stride(0);
  a.m = x.size(0);
  a.n = w.num_rows();
  a.k = w.num_columns();
  return a;
}

Product Product::make(Context& ctx, const kernels::LinearArgs& args) {
  return {args, ctx.workspace.tensor(DType::kU8, {kernels::linear_kernels(ctx.isa).packed_bytes(args)}).raw()};
}

Index piece_columns(const Context& ctx, std::span<const kernels::LinearArgs> products, Index set) {
  const Index threads = ctx.threads.num_threads();
  Index columns = 0, least = 16;
  for (const kernels::LinearArgs& a : products) {
    columns += a.n;
    if (a.w_grouped) least = kGroupRows;
  }
  if (threads == 1) return columns;
  // Whole sets of columns; fewer where the matrices are too narrow to give every thread a few.
  Index grain = set;
  while (grain > least && columns < grain * threads * 2) grain /= 2;
  return grain;
}

}  // namespace hadal::ops
