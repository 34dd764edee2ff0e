#include "hadal/ops/rope.h"

#include <cmath>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/work.h"

namespace hadal::ops {

RopeTable rope_table(Context& ctx, const std::vector<double>& inv_freq, std::span<const Index> positions,
                     double magnitude) {
  const auto pairs = static_cast<Index>(inv_freq.size()), count = static_cast<Index>(positions.size());
  const RopeTable table{ctx.workspace.tensor(DType::kF64, {count, pairs}),
                        ctx.workspace.tensor(DType::kF64, {count, pairs})};
  const auto cos = table.cos.view<double, 2>(), sin = table.sin.view<double, 2>();
  for (Index t = 0; t < count; ++t)
    for (Index i = 0; i < pairs; ++i) {
      const double angle =
          static_cast<double>(positions[static_cast<std::size_t>(t)]) * inv_freq[static_cast<std::size_t>(i)];
      cos(t, i) = std::cos(angle) * magnitude;
      sin(t, i) = std::sin(angle) * magnitude;
    }
  return table;
}

TensorRef rope(Context& ctx, const TensorRef& x, const RopeTable& table) {
  if (x.rank() == 2) return rope(ctx, x.split_last(1, x.size(1)), table).reshape(x.shape());
  HADAL_CHECK(x.rank() == 3 && x.size(2) == 2 * table.cos.size(1) && x.size(0) == table.cos.size(0),
              "rope: x has shape {}, the table {}", x.shape().to_string(), table.cos.shape().to_string());
  const TensorRef y = ctx.workspace.floats(x.shape());
  const auto from = x.view<float, 3>(), to = y.view<float, 3>();
  const auto cos = table.cos.view<double, 2>(), sin = table.sin.view<double, 2>();
  const Index row_work = x.size(1) * x.size(2) * 4;
  ctx.threads.parallel_for(x.size(0), kernels::piece_size(ctx, x.size(0), row_work, 1), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index h = 0; h < x.size(1); ++h)
        kernels::ref::rope(&from(t, h, 0), cos.row(t), sin.row(t), &to(t, h, 0), cos.shape[1]);
  });
  return y;
}

}  // namespace hadal::ops
