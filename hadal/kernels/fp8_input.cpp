#include "hadal/kernels/fp8_input.h"

#include <algorithm>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels {
namespace {

constexpr Index kTile = 128;
constexpr Index kValueWork = 8;

struct Rounded {
  TensorRef values;  // of the codes, unscaled [m, k]
  TensorRef scale;   // [m, tiles]
};

Rounded round_input(Context& ctx, const LinearArgs& a, bool ue8m0) {
  const Index tiles = (a.k + kTile - 1) / kTile;
  Rounded out{ctx.workspace.floats({a.m, a.k}), ctx.workspace.floats({a.m, tiles})};
  const auto to = out.values.view<float, 2>(), scale = out.scale.view<float, 2>();
  ctx.threads.parallel_for(a.m, piece_size(ctx, a.m, a.k * kValueWork, 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const float* from = a.x + (a.x_rows ? a.x_rows[r] : r) * a.x_stride;
      for (Index t = 0; t < tiles; ++t) {
        const Index c = t * kTile;
        scale(r, t) = ref::quantize_tile(from + c, nullptr, to.row(r) + c, std::min(kTile, a.k - c), ue8m0);
      }
    }
  });
  return out;
}

}  // namespace

WorkspaceNeed fp8_inputs_need(std::span<const LinearArgs> products) {
  WorkspaceNeed need;
  for (const LinearArgs& a : products) {
    if (a.activations != Activations::kFp8 || a.w_dtype != DType::kF8E4M3) continue;
    need.floats(a.m * a.k);
    need.floats(a.m * ((a.k + kTile - 1) / kTile));
    break;
  }
  return need;
}

std::vector<LinearArgs> with_fp8_inputs(Context& ctx, std::span<const LinearArgs> products, bool ue8m0) {
  std::vector<LinearArgs> out(products.begin(), products.end());
  Rounded rounded;
  for (LinearArgs& a : out) {
    if (a.activations != Activations::kFp8) continue;
    a.activations = Activations::kF32;
    if (a.w_dtype != DType::kF8E4M3) continue;
    if (!rounded.values) rounded = round_input(ctx, a, ue8m0);
    a.x = rounded.values.data<float>();
    a.x_stride = rounded.values.stride(0);
    a.x_rows = nullptr;
    a.x_scale = rounded.scale.data<float>();
    a.x_scale_stride = rounded.scale.stride(0);
  }
  return out;
}

}  // namespace hadal::kernels
