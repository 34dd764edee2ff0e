#include <algorithm>
#include <vector>

#include "hadal/kernels/cpu/product.h"
#include "hadal/kernels/cpu/schedule.h"
#include "hadal/kernels/fp8_input.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels::cpu {
namespace {

constexpr Index kPackWork = 24;  // a value of x packed, beside a multiply-add

// Products of one input on their way: what is packed for each, and where its pieces end.
struct Products {
  std::vector<const void*> packed;
  std::vector<Index> piece_end;
  Index scratch_bytes = 0;
};

void pack(Context& ctx, const LinearKernels& k, const LinearArgs& a, void* packed) {
  const Index tiles = k.num_tiles(a);
  ctx.threads.parallel_for(tiles, piece_size(ctx, tiles, a.k * kPackWork, 1),
                           [&](Index begin, Index end) { k.pack(a, begin, end, 0, a.k, packed); });
}

// x is packed once for all products that read it alike.
Products prepare(Context& ctx, const LinearKernels& k, std::span<const LinearArgs> all, Index grain) {
  Products out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const LinearArgs& a = all[i];
    const void* packed = nullptr;
    for (std::size_t j = 0; j < i && !packed; ++j)
      if (same_packing(all[j], a)) packed = out.packed[j];
    if (!packed) {
      void* room = room_for_input(ctx, k, a);
      pack(ctx, k, a, room);
      packed = room;
    }
    out.packed.push_back(packed);
    out.piece_end.push_back((i ? out.piece_end.back() : 0) + (a.n + grain - 1) / grain);
    out.scratch_bytes = std::max(out.scratch_bytes, k.scratch_bytes(a));
  }
  return out;
}

Index packed_head_bytes(const LinearKernels& k, const LinearArgs& a) {
  return (k.packed_bytes(a) + 63) / 64 * 64;
}

// One parallel loop over the columns of all products.
void multiply(Context& ctx, std::span<const LinearArgs> all) {
  const Workspace::Scope scope(ctx.workspace);
  const LinearKernels& k = linear_kernels(ctx.numerics.isa);
  Index work = 0;
  for (const LinearArgs& a : all) work += a.m * a.n * a.k;
  const bool small = work < kSmallWork;
  const Index set = all[0].m <= kFewRows ? k.piece_columns : k.many_rows_piece_columns;
  const Index grain = small ? std::max<Index>(work, 1) : piece_columns(ctx, all, set);
  const Products p = prepare(ctx, k, all, grain);
  const ThreadScratch scratch(ctx, p.scratch_bytes);
  ctx.threads.parallel_for(p.piece_end.back(), small ? p.piece_end.back() : 1, [&](Index first, Index last) {
    for (Index piece = first; piece < last; ++piece) {
      const auto i = static_cast<std::size_t>(std::upper_bound(p.piece_end.begin(), p.piece_end.end(), piece) -
                                              p.piece_end.begin());
      const Index begin = (piece - (i ? p.piece_end[i - 1] : 0)) * grain, end = std::min(begin + grain, all[i].n);
      const void* next = end == all[i].n && i + 1 < all.size() ? all[i + 1].w : nullptr;
      k.multiply(all[i], p.packed[i], begin, end, next, scratch.mine());
    }
  });
}

}  // namespace

void* room_for_input(Context& ctx, const LinearKernels& kernels, const LinearArgs& args) {
  return ctx.workspace.tensor(DType::kU8, {kernels.packed_bytes(args)}).raw();
}

WorkspaceNeed input_need(const LinearKernels& kernels, const LinearArgs& args) {
  WorkspaceNeed need;
  need.tensor(DType::kU8, kernels.packed_bytes(args));
  return need;
}

Index piece_columns(const Context& ctx, std::span<const LinearArgs> products, Index set) {
  const Index threads = ctx.threads.num_threads();
  Index columns = 0, least = 16;
  for (const LinearArgs& a : products) {
    columns += a.n;
    if (a.w_layout != Layout::kRows) least = kGroupRows;
  }
  if (threads == 1) return columns;
  // Whole sets of columns; fewer where the matrices are too narrow to give every thread a few.
  Index grain = set;
  while (grain > least && columns < grain * threads * 2) grain /= 2;
  return grain;
}

void linear(Context& ctx, std::span<const LinearArgs> products, bool ue8m0) {
  if (products[0].activations != Activations::kFp8) return multiply(ctx, products);
  const Workspace::Scope scope(ctx.workspace);
  multiply(ctx, with_fp8_inputs(ctx, products, ue8m0));
}

WorkspaceNeed linear_need(const Context& ctx, std::span<const LinearArgs> products) {
  const LinearKernels& k = linear_kernels(ctx.numerics.isa);
  WorkspaceNeed need = fp8_inputs_need(products);
  Index scratch_bytes = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    LinearArgs a = products[i];
    if (a.activations == Activations::kFp8) a.activations = Activations::kF32;
    scratch_bytes = std::max(scratch_bytes, k.scratch_bytes(a));
    bool packed = false;
    for (std::size_t j = 0; j < i && !packed; ++j) packed = same_packing(products[j], a);
    if (!packed) need.then(input_need(k, a));
  }
  need.then(ThreadScratch::need(ctx, scratch_bytes));
  return need;
}

void absorb(Context& ctx, const HeadsArgs& args) {
  const LinearKernels& k = linear_kernels(ctx.numerics.isa);
  const LinearArgs& a = args.first;
  ctx.threads.parallel_for(args.heads, piece_size(ctx, args.heads, a.m * a.n * a.k, 1), [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h) k.transposed(head_args(args, h), 0, a.k);
  });
}

WorkspaceNeed expand_need(const Context& ctx, const LinearArgs& head) {
  const LinearKernels& k = linear_kernels(ctx.numerics.isa);
  return ThreadScratch::need(ctx, packed_head_bytes(k, head) + k.scratch_bytes(head));
}

void expand(Context& ctx, const HeadsArgs& args) {
  const Workspace::Scope scope(ctx.workspace);
  const LinearKernels& k = linear_kernels(ctx.numerics.isa);
  const LinearArgs& a = args.first;
  const Index packed_bytes = packed_head_bytes(k, a);
  const ThreadScratch scratch(ctx, packed_bytes + k.scratch_bytes(a));
  ctx.threads.parallel_for(args.heads, piece_size(ctx, args.heads, a.m * a.n * a.k, 1), [&](Index begin, Index end) {
    auto* packed = static_cast<std::byte*>(scratch.mine());
    for (Index h = begin; h < end; ++h) {
      const LinearArgs one = head_args(args, h);
      k.pack(one, 0, k.num_tiles(one), 0, one.k, packed);
      k.multiply(one, packed, 0, one.n, h + 1 < args.heads ? head_args(args, h + 1).w : nullptr, packed + packed_bytes);
    }
  });
}

}  // namespace hadal::kernels::cpu
