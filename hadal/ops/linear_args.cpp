#include "hadal/ops/linear_args.h"

#include <string>

#include "hadal/kernels/backend.h"

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

bool grids_fit(const Weight& w) {
  for (const ConstTensorRef& grid : {w.scale, w.zero, w.packed.scale, w.packed.zero})
    if (grid && !grid_fits(w, grid)) return false;
  return true;
}

void check_grid(const char* op, const char* what, const Weight& w, const ConstTensorRef& grid) {
  HADAL_CHECK(grid_fits(w, grid), "{}: {} {} from row {} has scales or zero points {}, one for {} x {} values", op,
              what, w.shape().to_string(), w.first_row, grid.shape().to_string(), w.scale_rows, w.scale_columns);
}

// What computes: a device, on the host an instruction set.
std::string reader(const Context& ctx) {
  return ctx.device.is_host() ? std::string(isa_name(ctx.numerics.isa)) : device_name(ctx.device);
}

PackedForm form_to_read(const Context& ctx, const char* op, const Weight& w) {
  const Layout own = kernels::backend(ctx).packed_layout(ctx.numerics);
  if (w.packed && w.packed.layout == own) return w.packed;
  HADAL_CHECK(w.values,
              "{}: the weight {} lies in {}, the kernels of {} read {}; load the model as stored, or for them", op,
              w.shape().to_string(), layout_name(w.packed.layout), reader(ctx),
              own == Layout::kRows ? "rows" : fmt::format("rows and {}", layout_name(own)));
  return {w.values};
}

}  // namespace

Weight rows_form(const char* op, const Weight& w) {
  HADAL_CHECK(w.values, "{}: the weight {} lies in {}, rows are read", op, w.shape().to_string(),
              layout_name(w.packed.layout));
  Weight rows = w;
  rows.packed = {};
  return rows;
}

kernels::LinearArgs weight_args(const Context& ctx, const char* op, const Weight& w) {
  const PackedForm form = form_to_read(ctx, op, w);
  kernels::LinearArgs a;
  a.w = form.values.raw_on(ctx.device);
  a.w_dtype = form.values.dtype();
  a.w_stride = form.values.stride(0);
  a.w_layout = form.layout;
  const ConstTensorRef &scale = form.scale ? form.scale : w.scale, &zero = form.scale ? form.zero : w.zero;
  if (scale) {
    a.w_scale = scale.raw_on(ctx.device);
    a.w_scale_dtype = scale.dtype();
    a.w_scale_stride = scale.stride(0);
    a.w_scale_layout = form.scale ? form.layout : Layout::kRows;
    a.scale_rows = w.scale_rows;
    a.scale_columns = w.scale_columns;
    a.w_zero = zero ? zero.data_on<std::uint8_t>(ctx.device) : nullptr;
    a.w_first_row = w.first_row;
    a.w_clean = w.clean;
  }
  a.n = w.num_rows();
  a.k = w.num_columns();
  return a;
}

kernels::LinearArgs linear_args(const Context& ctx, const char* op, const ConstTensorRef& x, const Weight& w,
                                const TensorRef& y) {
  kernels::LinearArgs a = weight_args(ctx, op, w);
  a.x = x.data_on<float>(ctx.device);
  a.x_stride = x.stride(0);
  a.y = y.data_on<float>(ctx.device);
  a.y_stride = y.stride(0);
  a.m = x.size(0);
  return a;
}

bool is_matrix(const Weight& w, Index columns) {
  return w.rank() == 2 && w.num_columns() == columns && is_known(w.dtype()) &&
         is_quantised(w.dtype()) == static_cast<bool>(w.any_scale()) && grids_fit(w);
}

void check_matrix(const char* op, const char* what, const Weight& w, Index columns) {
  if (is_matrix(w, columns)) return;
  const DType dtype = w.dtype();
  HADAL_CHECK(w.rank() == 2 && w.num_columns() == columns, "{}: {} has shape {}, not {} columns", op, what,
              w.shape().to_string(), columns);
  HADAL_CHECK(is_known(dtype), "{}: {} is {}; F32, BF16, F16, F8_E4M3, I8 and I32 (packed INT4) can be multiplied", op,
              what, dtype_name(dtype));
  HADAL_CHECK(is_quantised(dtype) == static_cast<bool>(w.any_scale()),
              "{}: F8_E4M3, I8 and I32 weights have a scale, others have none; {} is {}", op, what, dtype_name(dtype));
  for (const ConstTensorRef& grid : {w.scale, w.zero, w.packed.scale, w.packed.zero})
    if (grid) check_grid(op, what, w, grid);
}

}  // namespace hadal::ops
