#include "hadal/ops/elementwise.h"

#include <cstddef>
#include <vector>

#include "hadal/kernels/backend.h"
#include "hadal/kernels/elementwise.h"
#include "hadal/ops/real.h"
#include "hadal/ops/saving.h"

namespace hadal::ops {
namespace {

void check_same(const char* op, const ConstTensorRef& a, const ConstTensorRef& b) {
  HADAL_CHECK(a.rank() == 2 && a.shape() == b.shape(), "{}: shapes are {} and {}", op, a.shape().to_string(),
              b.shape().to_string());
}

void check_float(const char* op, DType dtype) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF8E4M3,
              "{}: a tensor is {}; F32, BF16, F16 and F8_E4M3 are read", op, dtype_name(dtype));
}

Index row_bytes(const ConstTensorRef& t) {
  return t.stride(0) * static_cast<Index>(dtype_bytes(t.dtype()));
}

kernels::StoredRows<const std::byte> rows_to_read(const Context& ctx, const ConstTensorRef& t) {
  return {static_cast<const std::byte*>(t.raw_on(ctx.device)), t.dtype(), row_bytes(t), t.size(0), t.size(1)};
}

kernels::StoredRows<std::byte> rows_to_write(const Context& ctx, const TensorRef& t) {
  return {static_cast<std::byte*>(t.raw_on(ctx.device)), t.dtype(), row_bytes(t), t.size(0), t.size(1)};
}

void copy(Context& ctx, const ConstTensorRef& from, const TensorRef& to) {
  if (is_double(from))
    kernels::training_kernels<double>(ctx).copy(ctx, heads_view<double>(ctx, from), heads_view<double>(ctx, to));
  else
    kernels::backend(ctx).copy(ctx, heads_view<float>(ctx, from), heads_view<float>(ctx, to));
}

}  // namespace

TensorRef rms_norm(Context& ctx, const ConstTensorRef& x, const ConstTensorRef& weight, double eps,
                   const TensorRef& inverse_rms) {
  HADAL_CHECK(x.rank() == 2 && weight.rank() == 1 && weight.size(0) == x.size(1),
              "rms_norm: x has shape {}, the weight {}", x.shape().to_string(), weight.shape().to_string());
  HADAL_CHECK(!inverse_rms || inverse_rms.shape() == Shape({x.size(0)}), "rms_norm: x has shape {}, inverse_rms {}",
              x.shape().to_string(), inverse_rms.shape().to_string());
  const TensorRef y = ctx.workspace.tensor(x.dtype(), x.shape());
  if (is_double(x)) {
    kernels::training_kernels<double>(ctx).rms_norm(
        ctx, x.view_on<double, 2>(ctx.device), weight.data_on<double>(ctx.device), eps, y.view_on<double, 2>(ctx.device),
        inverse_rms ? inverse_rms.data_on<double>(ctx.device) : nullptr);
    return y;
  }
  kernels::backend(ctx).rms_norm(ctx, x.view_on<float, 2>(ctx.device), weight.data_on<float>(ctx.device),
                                 static_cast<float>(eps), y.view_on<float, 2>(ctx.device),
                                 inverse_rms ? inverse_rms.data_on<float>(ctx.device) : nullptr);
  return y;
}

TensorRef rms_norm(Context& ctx, const ConstTensorRef& x, const ConstTensorRef& weight, double eps) {
  return rms_norm(ctx, x, weight, eps, {});
}

TensorRef swiglu(Context& ctx, const ConstTensorRef& gate, const ConstTensorRef& up) {
  check_same("swiglu", gate, up);
  const TensorRef y = ctx.workspace.tensor(gate.dtype(), gate.shape());
  if (is_double(gate)) {
    kernels::training_kernels<double>(ctx).swiglu(ctx, gate.view_on<double, 2>(ctx.device),
                                                  up.view_on<double, 2>(ctx.device), y.view_on<double, 2>(ctx.device));
    return y;
  }
  kernels::backend(ctx).swiglu(ctx, gate.view_on<float, 2>(ctx.device), up.view_on<float, 2>(ctx.device),
                               y.view_on<float, 2>(ctx.device));
  return y;
}

void add_in_place(Context& ctx, const TensorRef& x, const ConstTensorRef& y) {
  check_same("add", x, y);
  if (is_double(x))
    return kernels::training_kernels<double>(ctx).add(ctx, y.view_on<double, 2>(ctx.device),
                                                      x.view_on<double, 2>(ctx.device));
  kernels::backend(ctx).add(ctx, y.view_on<float, 2>(ctx.device), x.view_on<float, 2>(ctx.device));
}

TensorRef embedding(Context& ctx, const Weight& table, std::span<const std::int32_t> ids) {
  HADAL_CHECK(!table.scale && table.values.rank() == 2, "embedding: the table is {} {}{}; it has rows of floats",
              dtype_name(table.values.dtype()), table.values.shape().to_string(), table.scale ? " with a scale" : "");
  const bool in_double = is_double(table.values);
  if (!in_double) check_float("embedding", table.values.dtype());
  for (const std::int32_t id : ids)
    HADAL_CHECK(id >= 0 && id < table.num_rows(), "embedding: token id {} is not below vocab_size {}", id,
                table.num_rows());
  const TensorRef y =
      ctx.workspace.tensor(in_double ? DType::kF64 : DType::kF32, {static_cast<Index>(ids.size()), table.num_columns()});
  if (in_double) {
    const std::vector<Index> rows(ids.begin(), ids.end());
    kernels::training_kernels<double>(ctx).gather(ctx, table.values.view_on<double, 2>(ctx.device), rows,
                                                  y.view_on<double, 2>(ctx.device));
    return y;
  }
  kernels::backend(ctx).embedding(ctx, rows_to_read(ctx, table.values), ids, y.view_on<float, 2>(ctx.device));
  return y;
}

TensorRef concatenate(Context& ctx, const ConstTensorRef& a, const ConstTensorRef& b) {
  HADAL_CHECK(a.rank() == 2 && b.rank() == 2 && a.size(0) == b.size(0), "concatenate: shapes are {} and {}",
              a.shape().to_string(), b.shape().to_string());
  const TensorRef y = ctx.workspace.tensor(a.dtype(), {a.size(0), a.size(1) + b.size(1)});
  copy(ctx, a, y.columns(0, a.size(1)));
  copy(ctx, b, y.columns(a.size(1), y.size(1)));
  return y;
}

TensorRef concatenate_heads(Context& ctx, const ConstTensorRef& a, const ConstTensorRef& b) {
  HADAL_CHECK(a.rank() == 3 && b.rank() == 3 && a.size(0) == b.size(0) && a.size(1) == b.size(1),
              "concatenate_heads: shapes are {} and {}", a.shape().to_string(), b.shape().to_string());
  const TensorRef y = ctx.workspace.tensor(a.dtype(), {a.size(0), a.size(1), a.size(2) + b.size(2)});
  copy(ctx, a, y.columns(0, a.size(2)));
  copy(ctx, b, y.columns(a.size(2), y.size(2)));
  return y;
}

void copy_rows(Context& ctx, const ConstTensorRef& x, const TensorRef& y) {
  check_same("copy", x, y);
  copy(ctx, x, y);
}

TensorRef gather_rows(Context& ctx, const ConstTensorRef& x, std::span<const Index> rows) {
  HADAL_CHECK(x.rank() == 2, "gather_rows: x has shape {}, not [T, D]", x.shape().to_string());
  for (const Index row : rows) HADAL_CHECK(row >= 0 && row < x.size(0), "gather_rows: row {} of {}", row, x.size(0));
  const TensorRef y = ctx.workspace.tensor(x.dtype(), {static_cast<Index>(rows.size()), x.size(1)});
  if (is_double(x)) {
    kernels::training_kernels<double>(ctx).gather(ctx, x.view_on<double, 2>(ctx.device), rows,
                                                  y.view_on<double, 2>(ctx.device));
    return y;
  }
  kernels::backend(ctx).gather(ctx, x.view_on<float, 2>(ctx.device), rows, y.view_on<float, 2>(ctx.device));
  return y;
}

void to_float(Context& ctx, const ConstTensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.rank() == 2 && from.shape() == to.shape(), "to_float: shapes are {} and {}",
              from.shape().to_string(), to.shape().to_string());
  check_float("to_float", from.dtype());
  kernels::backend(ctx).to_float(ctx, rows_to_read(ctx, from), to.view_on<float, 2>(ctx.device));
}

void from_float(Context& ctx, const ConstTensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.rank() == 2 && from.shape() == to.shape(), "from_float: shapes are {} and {}",
              from.shape().to_string(), to.shape().to_string());
  const DType dtype = to.dtype();
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16,
              "from_float: the destination is {}; F32, BF16 and F16 are written", dtype_name(dtype));
  kernels::backend(ctx).from_float(ctx, from.view_on<float, 2>(ctx.device), rows_to_write(ctx, to));
}

Tensor float_copy(const ConstTensorRef& from) {
  HADAL_CHECK(from.is_contiguous(), "float_copy: the source has gaps");
  check_float("float_copy", from.dtype());
  Tensor copy(DType::kF32, from.shape());
  kernels::ref::to_float(from.raw(), from.dtype(), copy->data<float>(), from.num_elements());
  return copy;
}

}  // namespace hadal::ops
