// Products on their way through the kernels of an instruction set: packed input, pieces of columns, scratch.
#pragma once

#include <span>

#include "hadal/core/context.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels::cpu {

// Up to here few rows are computed at a time, and reading the weights is what takes the time.
inline constexpr Index kFewRows = 16;

// Whether products of the same x can share its packed form.
inline bool same_packing(const LinearArgs& a, const LinearArgs& b) {
  return a.w_dtype == b.w_dtype && a.scale_columns == b.scale_columns && a.w_layout == b.w_layout;
}

// Room for the packed input of a product, in ctx.workspace.
void* room_for_input(Context& ctx, const LinearKernels& kernels, const LinearArgs& args);
WorkspaceNeed input_need(const LinearKernels& kernels, const LinearArgs& args);

// How many columns a piece of a parallel loop over all these products takes.
Index piece_columns(const Context& ctx, std::span<const LinearArgs> products, Index set);

// Scratch for `multiply`, a piece per thread; lives as long as the workspace's scope.
class ThreadScratch {
 public:
  ThreadScratch(Context& ctx, Index bytes_each)
      : bytes_((bytes_each + 63) / 64 * 64),
        memory_(ctx.workspace.tensor(DType::kU8, {ctx.threads.num_threads() * bytes_})) {}
  static WorkspaceNeed need(const Context& ctx, Index bytes_each) {
    WorkspaceNeed need;
    need.tensor(DType::kU8, ctx.threads.num_threads() * ((bytes_each + 63) / 64 * 64));
    return need;
  }
  void* mine() const { return static_cast<std::byte*>(memory_.raw()) + ThreadPool::current_thread() * bytes_; }

 private:
  Index bytes_;
  TensorRef memory_;
};

}  // namespace hadal::kernels::cpu
