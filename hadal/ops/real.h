// Operations that exist in float32 and, for exact gradients, in double. Internal to ops.
#pragma once

#include "hadal/core/context.h"
#include "hadal/kernels/training.h"

namespace hadal::ops {

inline bool is_double(const ConstTensorRef& x) {
  return x.dtype() == DType::kF64;
}

// f(Real{}, the kernels of Real) for a tensor's dtype.
template <class F>
auto with_real(const Context& ctx, const char* op, DType dtype, F&& f) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kF64, "{}: a tensor is {}; F32 and F64 are computed with", op,
              dtype_name(dtype));
  if (dtype == DType::kF64) return f(double{}, kernels::training_kernels<double>(ctx));
  return f(float{}, kernels::training_kernels<float>(ctx));
}

// x of rank 2 as one head a row.
template <class T, class Ref>
auto heads_view(const Context& ctx, const Ref& x) {
  return x.rank() == 3 ? x.template view_on<T, 3>(ctx.device)
                       : x.split_last(1, x.size(1)).template view_on<T, 3>(ctx.device);
}

}  // namespace hadal::ops
