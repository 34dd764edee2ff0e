#include "hadal/ops/linear_args.h"

namespace hadal::ops {
namespace {

bool is_quantised(DType dtype) {
  return dtype == DType::kF8E4M3 || dtype == DType::kI8 || dtype == DType::kI32;
}

bool is_known(DType dtype) {
  return is_quantised(dtype) || dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

bool grid_fits(const Weight& w, const ConstTensorRef& grid) {
  return grid.rank() == 2 && grid.size(0) >= num_blocks(w.first_row + w.num_rows(), w.scale_rows) &&
         grid.size(1) >= num_blocks(w.num_columns(), w.scale_columns);
}

void check_grid(const char* op, const char* what, const Weight& w, const ConstTensorRef& grid) {
  HADAL_CHECK(grid_fits(w, grid), "{}: {} {} from row {} has scales or zero points {}, one for {} x {} values", op,
              what, w.values.shape().to_string(), w.first_row, grid.shape().to_string(), w.scale_rows, w.scale_columns);
}

}  // namespace

kernels::LinearArgs weight_args(const Context& ctx, const Weight& w) {
  kernels::LinearArgs a;
  a.w = w.values.raw_on(ctx.device);
  a.w_dtype = w.values.dtype();
  a.w_stride = w.values.stride(0);
  a.w_layout = w.layout;
  if (w.scale) {
    a.w_scale = w.scale.raw_on(ctx.device);
    a.w_scale_dtype = w.scale.dtype();
    a.w_scale_stride = w.scale.stride(0);
    a.scale_rows = w.scale_rows;
    a.scale_columns = w.scale_columns;
    a.w_zero = w.zero ? w.zero.data_on<std::uint8_t>(ctx.device) : nullptr;
    a.w_first_row = w.first_row;
    a.w_clean = w.clean;
  }
  a.n = w.num_rows();
  a.k = w.num_columns();
  return a;
}

kernels::LinearArgs linear_args(const Context& ctx, const ConstTensorRef& x, const Weight& w, const TensorRef& y) {
  kernels::LinearArgs a = weight_args(ctx, w);
  a.x = x.data_on<float>(ctx.device);
  a.x_stride = x.stride(0);
  a.y = y.data_on<float>(ctx.device);
  a.y_stride = y.stride(0);
  a.m = x.size(0);
  return a;
}

void check_layout(const char* op, const Weight& w, Isa isa) {
  HADAL_CHECK(
      w.layout == Layout::kRows || w.layout == grouped_layout(isa),
      "{}: the weight {} lies in {}, which the kernels of {} do not read; load the model as stored, or for this "
      "instruction set",
      op, w.values.shape().to_string(), layout_name(w.layout), isa_name(isa));
}

bool is_matrix(const Weight& w, Index columns) {
  return w.values.rank() == 2 && w.num_columns() == columns && is_known(w.values.dtype()) &&
         is_quantised(w.values.dtype()) == static_cast<bool>(w.scale) && (!w.scale || grid_fits(w, w.scale)) &&
         (!w.zero || grid_fits(w, w.zero));
}

void check_matrix(const char* op, const char* what, const Weight& w, Index columns) {
  if (is_matrix(w, columns)) return;
  const DType dtype = w.values.dtype();
  HADAL_CHECK(w.values.rank() == 2 && w.num_columns() == columns, "{}: {} has shape {}, not {} columns", op, what,
              w.values.shape().to_string(), columns);
  HADAL_CHECK(is_known(dtype), "{}: {} is {}; F32, BF16, F16, F8_E4M3, I8 and I32 (packed INT4) can be multiplied", op,
              what, dtype_name(dtype));
  HADAL_CHECK(is_quantised(dtype) == static_cast<bool>(w.scale),
              "{}: F8_E4M3, I8 and I32 weights have a scale, others have none; {} is {}", op, what, dtype_name(dtype));
  check_grid(op, what, w, w.scale);
  check_grid(op, what, w, w.zero);
}

}  // namespace hadal::ops
