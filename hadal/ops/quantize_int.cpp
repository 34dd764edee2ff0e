#include "hadal/ops/quantize_int.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "hadal/core/number_formats.h"
#include "hadal/kernels/work.h"

namespace hadal::ops {
namespace {

constexpr float kInt8Max = 127.0f;
constexpr float kInt4Half = 7.5f;  // half of what 16 codes span

template <class Body>
void for_each_row(Context& ctx, Index rows, Index columns, const Body& body) {
  ctx.threads.parallel_for(rows, kernels::piece_size(ctx, rows, columns * 8, 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) body(r);
  });
}

// Not a number if any is: damage shows in the scale, which `verify` looks at, since codes cannot show it.
float largest(const float* x, Index n, float so_far = 0) {
  for (Index i = 0; i < n; ++i)
    if (const float size = std::abs(x[i]); !(size <= so_far) && !std::isnan(so_far)) so_far = size;
  return so_far;
}

// 1 for nothing but zeros, or values so small that their scale underflows.
float usable(float scale) {
  return scale == 0 ? 1 : scale;
}

float nearest(float x, float scale, float low, float high) {
  const float code = std::nearbyint(x / scale);
  return std::isnan(code) ? 0 : std::clamp(code, low, high);
}

void encode_int8(const float* x, Index n, float scale, std::int8_t* codes) {
  for (Index i = 0; i < n; ++i) codes[i] = static_cast<std::int8_t>(nearest(x[i], scale, -kInt8Max, kInt8Max));
}

float scale_value(const ConstTensorRef& scale, Index i) {
  switch (scale.dtype()) {
    case DType::kBF16:
      return bf16_to_float(scale.data<bf16>()[i]);
    case DType::kF16:
      return f16_to_float(scale.data<f16>()[i]);
    default:
      return scale.data<float>()[i];
  }
}

float code_value(const Weight& w, Index r, Index c, Index grid) {
  if (w.values.dtype() == DType::kF8E4M3) return e4m3_to_float(w.values.data<e4m3>()[r * w.values.stride(0) + c]);
  if (w.values.dtype() == DType::kI8) return w.values.data<std::int8_t>()[r * w.values.stride(0) + c];
  const auto word = static_cast<std::uint32_t>(w.values.data<std::int32_t>()[r * w.values.stride(0) + c / 8]);
  const int code = static_cast<int>((word >> (4 * (c % 8))) & 15u);
  return static_cast<float>(code - (w.zero ? w.zero.data<std::uint8_t>()[grid] : 8));
}

}  // namespace

void pack_int4(const std::uint8_t* codes, Index count, std::int32_t* words) {
  for (Index begin = 0; begin < count; begin += 8) {
    std::uint32_t word = 0;
    for (Index i = 0; i < std::min<Index>(8, count - begin); ++i) word |= std::uint32_t{codes[begin + i]} << (4 * i);
    words[begin / 8] = static_cast<std::int32_t>(word);
  }
}

void quantize_int8_blocks(Context& ctx, const ConstTensorRef& x, const TensorRef& codes, const TensorRef& scale) {
  const auto from = x.view<float, 2>();
  const auto scales = scale.view<float, 2>();
  const auto to = codes.view<std::int8_t, 2>();
  const Index rows = x.size(0), columns = x.size(1);
  HADAL_CHECK(codes.shape() == x.shape() && scale.shape() == Shape({num_blocks(rows), num_blocks(columns)}),
              "quantize_int8_blocks: x {}, codes {}, scale {}", x.shape().to_string(), codes.shape().to_string(),
              scale.shape().to_string());
  for_each_row(ctx, num_blocks(rows), kBlock * columns, [&](Index i) {
    const Index end = std::min(rows, (i + 1) * kBlock);
    for (Index c = 0; c < columns; c += kBlock) {
      const Index width = std::min(kBlock, columns - c);
      float amax = 0;
      for (Index r = i * kBlock; r < end; ++r) amax = largest(from.row(r) + c, width, amax);
      scales(i, c / kBlock) = usable(amax / kInt8Max);
      for (Index r = i * kBlock; r < end; ++r)
        encode_int8(from.row(r) + c, width, scales(i, c / kBlock), to.row(r) + c);
    }
  });
}

void quantize_int8_rows(Context& ctx, const ConstTensorRef& x, const TensorRef& codes, const TensorRef& scale) {
  const auto from = x.view<float, 2>();
  const auto scales = scale.view<float, 2>();
  const auto to = codes.view<std::int8_t, 2>();
  HADAL_CHECK(codes.shape() == x.shape() && scale.shape() == Shape({x.size(0), 1}),
              "quantize_int8_rows: x {}, codes {}, scale {}", x.shape().to_string(), codes.shape().to_string(),
              scale.shape().to_string());
  for_each_row(ctx, x.size(0), x.size(1), [&](Index r) {
    scales(r, 0) = usable(largest(from.row(r), x.size(1)) / kInt8Max);
    encode_int8(from.row(r), x.size(1), scales(r, 0), to.row(r));
  });
}

void quantize_int4(Context& ctx, const ConstTensorRef& x, Index group, const TensorRef& packed,
                   const TensorRef& scale) {
  const auto from = x.view<float, 2>();
  const auto to = packed.view<std::int32_t, 2>();
  const auto scales = scale.view<bf16, 2>();
  const Index rows = x.size(0), columns = x.size(1);
  HADAL_CHECK(packed.shape() == Shape({rows, num_blocks(columns, 8)}) &&
                  scale.shape() == Shape({rows, num_blocks(columns, group)}),
              "quantize_int4: x {}, packed {}, scale {}", x.shape().to_string(), packed.shape().to_string(),
              scale.shape().to_string());
  for_each_row(ctx, rows, columns, [&](Index r) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns));
    for (Index c = 0; c < columns; c += group) {
      const Index width = std::min(group, columns - c);
      const float s = usable(bf16_to_float(float_to_bf16(largest(from.row(r) + c, width) / kInt4Half)));
      scales(r, c / group) = float_to_bf16(s);
      for (Index i = c; i < c + width; ++i)
        codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(nearest(from(r, i), s, -8, 7) + 8);
    }
    pack_int4(codes.data(), columns, to.row(r));
  });
}

void dequantize(Context& ctx, const Weight& w, const TensorRef& y) {
  const auto to = y.view<float, 2>();
  HADAL_CHECK(w.scale && y.shape() == Shape({w.num_rows(), w.num_columns()}), "dequantize: the weight is {}, y {}",
              w.values.shape().to_string(), y.shape().to_string());
  for_each_row(ctx, y.size(0), y.size(1), [&](Index r) {
    const Index row = (w.first_row + r) / w.scale_rows * w.scale.stride(0);
    for (Index c = 0; c < y.size(1); ++c) {
      const Index grid = row + c / w.scale_columns;
      to(r, c) = code_value(w, r, c, grid) * scale_value(w.scale, grid);
    }
  });
}

}  // namespace hadal::ops
