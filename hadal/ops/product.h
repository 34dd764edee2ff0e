// One product x W^T on its way through the fast kernels: arguments, packed input. Internal to ops: linear.cpp and
// experts.cpp cut the work, this knows how a Weight becomes arguments.
#pragma once

#include <span>

#include "hadal/core/context.h"
#include "hadal/kernels/linear.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// x [m, k], y [m, n].
kernels::LinearArgs linear_args(const TensorRef& x, const Weight& w, const TensorRef& y);

// The bytes of rows from `row` on, for prefetching.
inline const void* weight_row(const kernels::LinearArgs& a, Index row) {
  const Index bits = a.w_dtype == DType::kI32 ? 32 : static_cast<Index>(dtype_bytes(a.w_dtype)) * 8;
  return static_cast<const std::byte*>(a.w) + row * a.w_stride * bits / 8;
}

// Whether products of the same x can share its packed form.
inline bool same_packing(const kernels::LinearArgs& a, const kernels::LinearArgs& b) {
  return a.w_dtype == b.w_dtype && a.scale_columns == b.scale_columns && a.w_grouped == b.w_grouped;
}

struct Product {
  kernels::LinearArgs args;
  void* packed = nullptr;

  // Room for the packed input in ctx.workspace.
  static Product make(Context& ctx, const kernels::LinearArgs& args);
};

// How many columns a piece of a parallel loop over all these products takes.
Index piece_columns(const Context& ctx, std::span<const kernels::LinearArgs> products, Index set);

// Scratch for `multiply`, a piece per thread; lives as long as the workspace's scope.
class ThreadScratch {
 public:
  ThreadScratch(Context& ctx, Index bytes_each)
      : bytes_((bytes_each + 63) / 64 * 64),
        memory_(ctx.workspace.tensor(DType::kU8, {ctx.threads.num_threads() * bytes_})) {}
  void* mine() const { return static_cast<std::byte*>(memory_.raw()) + ThreadPool::current_thread() * bytes_; }

 private:
  Index bytes_;
  TensorRef memory_;
};

}  // namespace hadal::ops
