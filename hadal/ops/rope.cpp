#include "hadal/ops/rope.h"

#include <cmath>

#include "hadal/core/transfer.h"
#include "hadal/kernels/backend.h"
#include "hadal/ops/real.h"

namespace hadal::ops {

RopeTable rope_table(Context& ctx, const std::vector<double>& inv_freq, std::span<const Index> positions,
                     double magnitude) {
  const auto pairs = static_cast<Index>(inv_freq.size()), count = static_cast<Index>(positions.size());
  const Tensor table(DType::kF64, {2, count, pairs});
  const auto cos = table.ref()[0].view<double, 2>(), sin = table.ref()[1].view<double, 2>();
  for (Index t = 0; t < count; ++t)
    for (Index i = 0; i < pairs; ++i) {
      const double angle =
          static_cast<double>(positions[static_cast<std::size_t>(t)]) * inv_freq[static_cast<std::size_t>(i)];
      cos(t, i) = std::cos(angle) * magnitude;
      sin(t, i) = std::sin(angle) * magnitude;
    }
  const TensorRef there = to_device(ctx, table);
  return {there[0], there[1]};
}

WorkspaceNeed rope_table_need(Index pairs, Index positions) {
  WorkspaceNeed need;
  for (int i = 0; i < 2; ++i) need.tensor(DType::kF64, positions * pairs);
  return need;
}

TensorRef rope(Context& ctx, const ConstTensorRef& x, const RopeTable& table) {
  if (x.rank() == 2) return rope(ctx, x.split_last(1, x.size(1)), table).reshape(x.shape());
  HADAL_CHECK(x.rank() == 3 && x.size(2) == 2 * table.cos.size(1) && x.size(0) == table.cos.size(0),
              "rope: x has shape {}, the table {}", x.shape().to_string(), table.cos.shape().to_string());
  const TensorRef y = ctx.workspace.tensor(x.dtype(), x.shape());
  if (is_double(x)) {
    kernels::training_kernels<double>(ctx).rope(ctx, x.view_on<double, 3>(ctx.device),
                                                table.cos.view_on<double, 2>(ctx.device),
                                                table.sin.view_on<double, 2>(ctx.device), false,
                                                y.view_on<double, 3>(ctx.device));
    return y;
  }
  kernels::backend(ctx).rope(ctx, x.view_on<float, 3>(ctx.device), table.cos.view_on<double, 2>(ctx.device),
                             table.sin.view_on<double, 2>(ctx.device), y.view_on<float, 3>(ctx.device));
  return y;
}

}  // namespace hadal::ops
