#include "hadal/ops/row_groups.h"

#include <algorithm>
#include <vector>

#include "hadal/kernels/backend.h"
#include "hadal/kernels/grid_groups.h"

namespace hadal::ops {
namespace {

constexpr Index kPieceBytes = 1 << 20;
static_assert(kGroupRows % kCleanRows == 0);

struct Piece {
  std::size_t weight;
  Index begin, end;  // rows: whole groups
};

Index row_bytes(const Weight& w) {
  return w.values.num_bytes() / w.num_rows();
}

std::vector<Piece> cut(std::span<Weight* const> weights) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Weight& w = *weights[i];
    HADAL_CHECK(can_group_rows(w), "group_rows: {} of {} cannot be grouped", w.values.shape().to_string(),
                dtype_name(w.values.dtype()));
    const Index rows = std::max<Index>(1, kPieceBytes / (row_bytes(w) * kGroupRows)) * kGroupRows;
    for (Index begin = 0; begin < w.num_rows(); begin += rows)
      pieces.push_back({i, begin, std::min(begin + rows, w.num_rows())});
  }
  return pieces;
}

kernels::LinearArgs matrix_args(const Weight& w) {
  kernels::LinearArgs a;
  a.w = w.values.raw();
  a.w_dtype = w.values.dtype();
  a.w_stride = w.values.stride(0);
  a.w_first_row = w.first_row;
  a.w_clean = w.clean;
  if (w.scale) {
    a.w_scale = w.scale.raw();
    a.w_scale_dtype = w.scale.dtype();
    a.w_scale_stride = w.scale.stride(0);
    a.scale_rows = w.scale_rows;
    a.scale_columns = w.scale_columns;
  }
  a.n = w.num_rows();
  a.k = w.num_columns();
  return a;
}

}  // namespace

bool reads_groups(const Context& ctx) {
  const Layout own = kernels::backend(ctx).packed_layout(ctx.numerics);
  return own == Layout::kGroups32 || own == Layout::kGroups64;
}

bool can_group_rows(const Weight& w) {
  return w.values.rank() == 2 && w.values.is_contiguous() && !w.packed &&
         kernels::can_group(w.values.dtype(), w.num_rows(), w.num_columns());
}

void group_rows(Context& ctx, std::span<Weight* const> weights, std::span<std::byte* const> to) {
  HADAL_CHECK(reads_groups(ctx), "group_rows: these kernels read rows alone");
  const std::vector<Piece> pieces = cut(weights);
  const kernels::LinearKernels& k = kernels::linear_kernels(ctx.numerics.isa);
  ctx.threads.parallel_for(static_cast<Index>(pieces.size()), 1, [&](Index i, Index) {
    const Piece& p = pieces[static_cast<std::size_t>(i)];
    const Weight& w = *weights[p.weight];
    k.group_rows(matrix_args(w), p.begin, p.end, to[p.weight] + p.begin * row_bytes(w));
  });
  for (std::size_t i = 0; i < weights.size(); ++i) {
    Weight& w = *weights[i];
    w.packed = {ConstTensorRef(to[i], w.dtype(), w.shape()), k.groups};
  }
}

namespace {

std::uint64_t whole_lines(Index bytes) {
  return static_cast<std::uint64_t>((bytes + 63) / 64 * 64);
}

}  // namespace

std::uint64_t grouped_grid_bytes(const Weight& w) {
  // Of a single block every order is the same.
  if (!w.scale || w.scale_rows != 1 || w.scale_columns > kBlock || w.first_row != 0 ||
      w.scale.size(0) != w.num_rows() || w.scale.size(1) == 1 || (w.zero && w.zero.shape() != w.scale.shape()))
    return 0;
  return whole_lines(w.scale.num_bytes()) + (w.zero ? whole_lines(w.zero.num_bytes()) : 0);
}

void group_grids(Context& ctx, std::span<Weight* const> weights, std::span<std::byte* const> to) {
  ctx.threads.parallel_for(static_cast<Index>(weights.size()), 1, [&](Index i, Index) {
    Weight& w = *weights[static_cast<std::size_t>(i)];
    HADAL_CHECK(w.packed && grouped_grid_bytes(w) > 0, "group_grids: the scales of {} in {} cannot be grouped",
                w.shape().to_string(), layout_name(w.packed.layout));
    std::byte* at = to[i];
    const auto grouped = [&](const ConstTensorRef& grid) {
      const auto value_bytes = static_cast<Index>(dtype_bytes(grid.dtype()));
      kernels::group_grid({grid.raw(), value_bytes, grid.stride(0), grid.size(1)}, 0, grid.size(0), w.packed.layout,
                          at);
      const ConstTensorRef ref(at, grid.dtype(), grid.shape());
      at += whole_lines(grid.num_bytes());
      return ref;
    };
    w.packed.scale = grouped(w.scale);
    if (w.zero) w.packed.zero = grouped(w.zero);
  });
}

bool rounds_to_int8(const Context& ctx, const Weight& w) {
  return ctx.numerics.activations == Activations::kInt8 && (w.dtype() == DType::kF8E4M3 || w.dtype() == DType::kBF16) &&
         kernels::can_group(DType::kI8, w.num_rows(), w.num_columns());
}

namespace {

std::uint64_t code_bytes(const Weight& w) {
  return static_cast<std::uint64_t>(w.num_rows() * w.num_columns());
}

}  // namespace

std::uint64_t rounded_bytes(const Weight& w) {
  return code_bytes(w) + static_cast<std::uint64_t>(w.num_rows() * num_blocks(w.num_columns())) * sizeof(float);
}

void round_to_int8(Context& ctx, std::span<Weight* const> weights, std::span<std::byte* const> to) {
  HADAL_CHECK(reads_groups(ctx), "round_to_int8: these kernels read rows alone");
  const std::vector<Piece> pieces = cut(weights);
  const kernels::LinearKernels& k = kernels::linear_kernels(ctx.numerics.isa);
  const auto scale_of = [&](std::size_t i) { return reinterpret_cast<float*>(to[i] + code_bytes(*weights[i])); };
  ctx.threads.parallel_for(static_cast<Index>(pieces.size()), 1, [&](Index i, Index) {
    const Piece& p = pieces[static_cast<std::size_t>(i)];
    const Weight& w = *weights[p.weight];
    k.round_rows(matrix_args(w), p.begin, p.end, to[p.weight] + p.begin * w.num_columns(), scale_of(p.weight));
  });
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Weight& w = *weights[i];
    const Index rows = w.num_rows(), columns = w.num_columns();
    Weight rounded{.values = {}, .scale_rows = 1};
    rounded.packed = {ConstTensorRef(to[i], DType::kI8, {rows, columns}), k.groups,
                      ConstTensorRef(scale_of(i), DType::kF32, {rows, num_blocks(columns)})};
    *weights[i] = rounded;
  }
}

}  // namespace hadal::ops
