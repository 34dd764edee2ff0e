#include "hadal/ops/elementwise.h"

#include "hadal/kernels/backend.h"
#include "hadal/kernels/elementwise.h"
#include "hadal/ops/saving.h"

namespace hadal::ops {
namespace {

void check_same(const char* op, const TensorRef& a, const TensorRef& b) {
  HADAL_CHECK(a.rank() == 2 && a.shape() == b.shape(), "{}: shapes are {} and {}", op, a.shape().to_string(),
              b.shape().to_string());
}

void check_float(const char* op, DType dtype) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF8E4M3,
              "{}: a tensor is {}; F32, BF16, F16 and F8_E4M3 are read", op, dtype_name(dtype));
}

kernels::StoredRows stored_rows(const TensorRef& t) {
  return {t.raw(), t.dtype(), t.stride(0) * static_cast<Index>(dtype_bytes(t.dtype())), t.size(0), t.size(1)};
}

// x of rank 2 as one head a row.
View<const float, 3> heads_of(const TensorRef& x) {
  if (x.rank() == 3) return x.view<const float, 3>();
  const auto rows = x.view<const float, 2>();
  return {rows.data, {rows.shape[0], 1, rows.shape[1]}, {rows.stride[0], rows.shape[1], 1}};
}

void copy(Context& ctx, const TensorRef& from, const TensorRef& to) {
  const View<const float, 3> y = heads_of(to);
  kernels::backend(ctx.numerics.isa).copy(ctx, heads_of(from), {to.data<float>(), y.shape, y.stride});
}

}  // namespace

TensorRef rms_norm(Context& ctx, const TensorRef& x, const TensorRef& weight, double eps,
                   const TensorRef& inverse_rms) {
  HADAL_CHECK(x.rank() == 2 && weight.rank() == 1 && weight.size(0) == x.size(1),
              "rms_norm: x has shape {}, the weight {}", x.shape().to_string(), weight.shape().to_string());
  HADAL_CHECK(!inverse_rms || inverse_rms.shape() == Shape({x.size(0)}), "rms_norm: x has shape {}, inverse_rms {}",
              x.shape().to_string(), inverse_rms.shape().to_string());
  const TensorRef y = ctx.workspace.floats(x.shape());
  kernels::backend(ctx.numerics.isa)
      .rms_norm(ctx, x.view<const float, 2>(), weight.data<float>(), static_cast<float>(eps), y.view<float, 2>(),
                inverse_rms ? inverse_rms.data<float>() : nullptr);
  return y;
}

TensorRef rms_norm(Context& ctx, const TensorRef& x, const TensorRef& weight, double eps) {
  return rms_norm(ctx, x, weight, eps, {});
}

TensorRef swiglu(Context& ctx, const TensorRef& gate, const TensorRef& up) {
  check_same("swiglu", gate, up);
  const TensorRef y = ctx.workspace.floats(gate.shape());
  kernels::backend(ctx.numerics.isa)
      .swiglu(ctx, gate.view<const float, 2>(), up.view<const float, 2>(), y.view<float, 2>());
  return y;
}

void add_in_place(Context& ctx, const TensorRef& x, const TensorRef& y) {
  check_same("add", x, y);
  kernels::backend(ctx.numerics.isa).add(ctx, y.view<const float, 2>(), x.view<float, 2>());
}

TensorRef embedding(Context& ctx, const Weight& table, std::span<const std::int32_t> ids) {
  HADAL_CHECK(!table.scale && table.values.rank() == 2, "embedding: the table is {} {}{}; it has rows of floats",
              dtype_name(table.values.dtype()), table.values.shape().to_string(), table.scale ? " with a scale" : "");
  check_float("embedding", table.values.dtype());
  for (const std::int32_t id : ids)
    HADAL_CHECK(id >= 0 && id < table.num_rows(), "embedding: token id {} is not below vocab_size {}", id,
                table.num_rows());
  const TensorRef y = ctx.workspace.floats({static_cast<Index>(ids.size()), table.num_columns()});
  kernels::backend(ctx.numerics.isa).embedding(ctx, stored_rows(table.values), ids, y.view<float, 2>());
  return y;
}

TensorRef concatenate(Context& ctx, const TensorRef& a, const TensorRef& b) {
  HADAL_CHECK(a.rank() == 2 && b.rank() == 2 && a.size(0) == b.size(0), "concatenate: shapes are {} and {}",
              a.shape().to_string(), b.shape().to_string());
  const TensorRef y = ctx.workspace.floats({a.size(0), a.size(1) + b.size(1)});
  copy(ctx, a, y.columns(0, a.size(1)));
  copy(ctx, b, y.columns(a.size(1), y.size(1)));
  return y;
}

TensorRef concatenate_heads(Context& ctx, const TensorRef& a, const TensorRef& b) {
  HADAL_CHECK(a.rank() == 3 && b.rank() == 3 && a.size(0) == b.size(0) && a.size(1) == b.size(1),
              "concatenate_heads: shapes are {} and {}", a.shape().to_string(), b.shape().to_string());
  const TensorRef y = ctx.workspace.floats({a.size(0), a.size(1), a.size(2) + b.size(2)});
  copy(ctx, a, y.columns(0, a.size(2)));
  copy(ctx, b, y.columns(a.size(2), y.size(2)));
  return y;
}

void copy_rows(Context& ctx, const TensorRef& x, const TensorRef& y) {
  check_same("copy", x, y);
  copy(ctx, x, y);
}

TensorRef gather_rows(Context& ctx, const TensorRef& x, std::span<const Index> rows) {
  HADAL_CHECK(x.rank() == 2, "gather_rows: x has shape {}, not [T, D]", x.shape().to_string());
  for (const Index row : rows) HADAL_CHECK(row >= 0 && row < x.size(0), "gather_rows: row {} of {}", row, x.size(0));
  const TensorRef y = ctx.workspace.floats({static_cast<Index>(rows.size()), x.size(1)});
  kernels::backend(ctx.numerics.isa).gather(ctx, x.view<const float, 2>(), rows, y.view<float, 2>());
  return y;
}

void to_float(Context& ctx, const TensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.rank() == 2 && from.shape() == to.shape(), "to_float: shapes are {} and {}",
              from.shape().to_string(), to.shape().to_string());
  check_float("to_float", from.dtype());
  kernels::backend(ctx.numerics.isa).to_float(ctx, stored_rows(from), to.view<float, 2>());
}

void from_float(Context& ctx, const TensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.rank() == 2 && from.shape() == to.shape(), "from_float: shapes are {} and {}",
              from.shape().to_string(), to.shape().to_string());
  const DType dtype = to.dtype();
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16,
              "from_float: the destination is {}; F32, BF16 and F16 are written", dtype_name(dtype));
  kernels::backend(ctx.numerics.isa).from_float(ctx, from.view<const float, 2>(), stored_rows(to));
}

Tensor float_copy(const TensorRef& from) {
  HADAL_CHECK(from.is_contiguous(), "float_copy: the source has gaps");
  check_float("float_copy", from.dtype());
  Tensor copy(DType::kF32, from.shape());
  kernels::ref::to_float(from.raw(), from.dtype(), copy->data<float>(), from.num_elements());
  return copy;
}

}  // namespace hadal::ops
