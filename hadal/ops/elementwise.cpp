#include "hadal/ops/elementwise.h"

#include <cstring>

#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/work.h"

namespace hadal::ops {
namespace {

// Rough cost of an element beside a multiply-add, so that only long rows are shared out.
constexpr Index kElementWork = 4;

template <class Body>
void for_each_row(Context& ctx, Index rows, Index columns, const Body& body) {
  ctx.threads.parallel_for(rows, kernels::piece_size(ctx, rows, columns * kElementWork, 1),
                           [&](Index begin, Index end) {
                             for (Index r = begin; r < end; ++r) body(r);
                           });
}

void check_same(const char* op, const TensorRef& a, const TensorRef& b) {
  HADAL_CHECK(a.rank() == 2 && a.shape() == b.shape(), "{}: shapes are {} and {}", op, a.shape().to_string(),
              b.shape().to_string());
}

void* row_of(const TensorRef& t, Index r) {
  return static_cast<char*>(t.raw()) + r * t.stride(0) * static_cast<Index>(dtype_bytes(t.dtype()));
}

}  // namespace

TensorRef rms_norm(Context& ctx, const TensorRef& x, const TensorRef& weight, double eps) {
  HADAL_CHECK(x.rank() == 2 && weight.rank() == 1 && weight.size(0) == x.size(1),
              "rms_norm: x has shape {}, the weight {}", x.shape().to_string(), weight.shape().to_string());
  const TensorRef y = ctx.workspace.floats(x.shape());
  const auto from = x.view<float, 2>(), to = y.view<float, 2>();
  const float* gain = weight.data<float>();
  for_each_row(ctx, x.size(0), x.size(1), [&](Index r) {
    if (ctx.isa != Isa::kRef)
      kernels::avx2::rms_norm(from.row(r), gain, to.row(r), x.size(1), static_cast<float>(eps));
    else
      kernels::ref::rms_norm(from.row(r), gain, to.row(r), x.size(1), static_cast<float>(eps));
  });
  return y;
}

TensorRef swiglu(Context& ctx, const TensorRef& gate, const TensorRef& up) {
  check_same("swiglu", gate, up);
  const TensorRef y = ctx.workspace.floats(gate.shape());
  const auto g = gate.view<float, 2>(), u = up.view<float, 2>(), to = y.view<float, 2>();
  for_each_row(ctx, gate.size(0), gate.size(1) * kElementWork, [&](Index r) {
    if (ctx.isa != Isa::kRef)
      kernels::avx2::swiglu(g.row(r), u.row(r), to.row(r), gate.size(1));
    else
      kernels::ref::swiglu(g.row(r), u.row(r), to.row(r), gate.size(1));
  });
  return y;
}

void add_in_place(Context& ctx, const TensorRef& x, const TensorRef& y) {
  check_same("add", x, y);
  const auto to = x.view<float, 2>(), from = y.view<float, 2>();
  for_each_row(ctx, x.size(0), x.size(1), [&](Index r) {
    if (ctx.isa != Isa::kRef)
      kernels::avx2::axpy(1.0f, from.row(r), to.row(r), x.size(1));
    else
      kernels::ref::axpy(1.0f, from.row(r), to.row(r), x.size(1));
  });
}

TensorRef embedding(Context& ctx, const Weight& table, std::span<const std::int32_t> ids) {
  HADAL_CHECK(!table.scale, "embedding: an FP8 table has no place in this family");
  const Index width = table.num_columns();
  const TensorRef y = ctx.workspace.floats({static_cast<Index>(ids.size()), width});
  for (std::size_t t = 0; t < ids.size(); ++t) {
    HADAL_CHECK(ids[t] >= 0 && ids[t] < table.num_rows(), "embedding: token id {} is not below vocab_size {}", ids[t],
                table.num_rows());
    kernels::ref::to_float(row_of(table.values, ids[t]), table.values.dtype(),
                           y.view<float, 2>().row(static_cast<Index>(t)), width);
  }
  return y;
}

TensorRef concatenate(Context& ctx, const TensorRef& a, const TensorRef& b) {
  HADAL_CHECK(a.rank() == 2 && b.rank() == 2 && a.size(0) == b.size(0), "concatenate: shapes are {} and {}",
              a.shape().to_string(), b.shape().to_string());
  const TensorRef y = ctx.workspace.floats({a.size(0), a.size(1) + b.size(1)});
  const auto to = y.view<float, 2>(), left = a.view<float, 2>(), right = b.view<float, 2>();
  for_each_row(ctx, a.size(0), y.size(1), [&](Index r) {
    std::memcpy(to.row(r), left.row(r), static_cast<std::size_t>(a.size(1)) * sizeof(float));
    std::memcpy(to.row(r) + a.size(1), right.row(r), static_cast<std::size_t>(b.size(1)) * sizeof(float));
  });
  return y;
}

TensorRef concatenate_heads(Context& ctx, const TensorRef& a, const TensorRef& b) {
  HADAL_CHECK(a.rank() == 3 && b.rank() == 3 && a.size(0) == b.size(0) && a.size(1) == b.size(1),
              "concatenate_heads: shapes are {} and {}", a.shape().to_string(), b.shape().to_string());
  const TensorRef y = ctx.workspace.floats({a.size(0), a.size(1), a.size(2) + b.size(2)});
  const auto to = y.view<float, 3>(), left = a.view<float, 3>(), right = b.view<float, 3>();
  for_each_row(ctx, a.size(0), a.size(1) * y.size(2), [&](Index t) {
    for (Index h = 0; h < a.size(1); ++h) {
      std::memcpy(&to(t, h, 0), &left(t, h, 0), static_cast<std::size_t>(a.size(2)) * sizeof(float));
      std::memcpy(&to(t, h, a.size(2)), &right(t, h, 0), static_cast<std::size_t>(b.size(2)) * sizeof(float));
    }
  });
  return y;
}

void copy_rows(Context& ctx, const TensorRef& x, const TensorRef& y) {
  check_same("copy", x, y);
  const auto from = x.view<float, 2>(), to = y.view<float, 2>();
  for_each_row(ctx, x.size(0), x.size(1), [&](Index r) {
    std::memcpy(to.row(r), from.row(r), static_cast<std::size_t>(x.size(1)) * sizeof(float));
  });
}

TensorRef gather_rows(Context& ctx, const TensorRef& x, std::span<const Index> rows) {
  const TensorRef y = ctx.workspace.floats({static_cast<Index>(rows.size()), x.size(1)});
  const auto from = x.view<float, 2>(), to = y.view<float, 2>();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    HADAL_CHECK(rows[i] >= 0 && rows[i] < x.size(0), "gather_rows: row {} of {}", rows[i], x.size(0));
    std::memcpy(to.row(static_cast<Index>(i)), from.row(rows[i]), static_cast<std::size_t>(x.size(1)) * sizeof(float));
  }
  return y;
}

void to_float(Context& ctx, const TensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.rank() == 2 && from.shape() == to.shape(), "to_float: shapes are {} and {}",
              from.shape().to_string(), to.shape().to_string());
  const auto out = to.view<float, 2>();
  for_each_row(ctx, from.size(0), from.size(1), [&](Index r) {
    if (ctx.isa != Isa::kRef)
      kernels::avx2::to_float(row_of(from, r), from.dtype(), out.row(r), from.size(1));
    else
      kernels::ref::to_float(row_of(from, r), from.dtype(), out.row(r), from.size(1));
  });
}

void from_float(Context& ctx, const TensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.rank() == 2 && from.shape() == to.shape(), "from_float: shapes are {} and {}",
              from.shape().to_string(), to.shape().to_string());
  const auto in = from.view<float, 2>();
  for_each_row(ctx, from.size(0), from.size(1),
               [&](Index r) { kernels::ref::from_float(in.row(r), to.dtype(), row_of(to, r), from.size(1)); });
}

Tensor float_copy(const TensorRef& from) {
  Tensor copy(DType::kF32, from.shape());
  HADAL_CHECK(from.is_contiguous(), "float_copy: the source has gaps");
  kernels::ref::to_float(from.raw(), from.dtype(), copy->data<float>(), from.num_elements());
  return copy;
}

}  // namespace hadal::ops
