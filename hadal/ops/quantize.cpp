#include "hadal/ops/quantize.h"

#include <algorithm>
#include <cmath>

#include "hadal/core/number_formats.h"

namespace hadal::ops {
namespace {

struct Block {
  Index row, row_end, column, column_end;
};

template <class Body>
void for_each_block(Context& ctx, Index rows, Index columns, const Body& body) {
  const Index across = num_blocks(columns);
  ctx.threads.parallel_for(num_blocks(rows), 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index j = 0; j < across; ++j)
        body(i, j,
             Block{i * kBlock, std::min(rows, (i + 1) * kBlock), j * kBlock, std::min(columns, (j + 1) * kBlock)});
  });
}

// Not a number if any value is: damage shows in the scale, as codes have a NaN but no infinity.
float block_scale(const View<const float, 2>& x, const Block& b, bool ue8m0) {
  float amax = 0;
  for (Index r = b.row; r < b.row_end; ++r)
    for (Index c = b.column; c < b.column_end; ++c)
      if (const float size = std::abs(x(r, c)); !(size <= amax) && !std::isnan(amax)) amax = size;
  const float scale = amax / kE4M3Max;
  if (scale == 0) return 1;  // nothing but zeros, or values so small that their scale underflows
  if (!std::isfinite(scale)) return scale;
  return ue8m0 ? round_up_to_power_of_two(scale) : scale;
}

}  // namespace

void quantize_blocks(Context& ctx, const ConstTensorRef& x, bool ue8m0, const TensorRef& codes,
                     const TensorRef& scale) {
  const auto from = x.view<float, 2>();
  const auto scales = scale.view<float, 2>();
  const auto to = codes.view<e4m3, 2>();
  HADAL_CHECK(codes.shape() == x.shape() && scale.shape() == Shape({num_blocks(x.size(0)), num_blocks(x.size(1))}),
              "quantize_blocks: x {}, codes {}, scale {}", x.shape().to_string(), codes.shape().to_string(),
              scale.shape().to_string());
  for_each_block(ctx, x.size(0), x.size(1), [&](Index i, Index j, const Block& b) {
    const float s = scales(i, j) = block_scale(from, b, ue8m0);
    for (Index r = b.row; r < b.row_end; ++r)
      for (Index c = b.column; c < b.column_end; ++c) to(r, c) = float_to_e4m3(from(r, c) / s);
  });
}

void dequantize_blocks(Context& ctx, const Weight& w, const TensorRef& y) {
  const auto from = w.values.view<e4m3, 2>();
  const auto scales = w.scale.view<float, 2>();
  const auto to = y.view<float, 2>();
  HADAL_CHECK(y.shape() == w.values.shape() && w.first_row % kBlock == 0,
              "dequantize_blocks: values {} from row {}, y {}", w.values.shape().to_string(), w.first_row,
              y.shape().to_string());
  for_each_block(ctx, y.size(0), y.size(1), [&](Index i, Index j, const Block& b) {
    const float s = scales(w.first_row / kBlock + i, j);
    for (Index r = b.row; r < b.row_end; ++r)
      for (Index c = b.column; c < b.column_end; ++c) to(r, c) = e4m3_to_float(from(r, c)) * s;
  });
}

}  // namespace hadal::ops
