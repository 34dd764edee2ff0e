#include "hadal/ops/optimizer.h"

#include <algorithm>
#include <cmath>

#include "hadal/ops/real.h"

namespace hadal::ops {
namespace {

void check(const char* op, const ConstTensorRef& a, const ConstTensorRef& b) {
  HADAL_CHECK(a && b && a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous(), "{}: tensors {} and {}", op,
              a.shape().to_string(), b.shape().to_string());
}

void check_state(const char* op, const ConstTensorRef& state, DType dtype) {
  HADAL_CHECK(state.dtype() == dtype && (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF64),
              "{}: state is {}; F32, BF16 or F64 of all tensors was expected", op, dtype_name(state.dtype()));
}

// Of several matrices: X, what it becomes, X X^T (or X^T X) and a polynomial in it.
struct Iterate {
  TensorRef x, next, gram, factor;
};

// The smaller one of a matrix's Gram matrices: x x^T for wide matrices, x^T x for tall ones.
bool is_tall(const ConstTensorRef& x) {
  return x.size(0) > x.size(1);
}

template <class Real>
kernels::Product<Real> gram(const Context& ctx, const Iterate& m) {
  const Index rows = m.x.size(0), columns = m.x.size(1);
  const Real* x = m.x.data_on<Real>(ctx.device);
  Real* y = m.gram.data_on<Real>(ctx.device);
  if (is_tall(m.x))
    return {.a = x,
            .a_row = 1,
            .a_column = columns,
            .b = x,
            .b_row = columns,
            .y = y,
            .y_stride = columns,
            .m = columns,
            .n = columns,
            .k = rows};
  return {.a = x,
          .a_row = columns,
          .b = x,
          .b_row = 1,
          .b_column = columns,
          .y = y,
          .y_stride = rows,
          .m = rows,
          .n = rows,
          .k = columns};
}

template <class Real>
kernels::Product<Real> square(const Context& ctx, const Iterate& m) {
  const Index n = m.gram.size(0);
  const Real* x = m.gram.data_on<Real>(ctx.device);
  return {.a = x,
          .a_row = n,
          .b = x,
          .b_row = n,
          .y = m.factor.data_on<Real>(ctx.device),
          .y_stride = n,
          .m = n,
          .n = n,
          .k = n};
}

// next = factor x, or x factor.
template <class Real>
kernels::Product<Real> next(const Context& ctx, const Iterate& m) {
  const Index rows = m.x.size(0), columns = m.x.size(1), n = m.factor.size(0);
  const Real *x = m.x.data_on<Real>(ctx.device), *f = m.factor.data_on<Real>(ctx.device);
  const bool tall = is_tall(m.x);
  return {.a = tall ? x : f,
          .a_row = n,
          .b = tall ? f : x,
          .b_row = columns,
          .y = m.next.data_on<Real>(ctx.device),
          .y_stride = columns,
          .m = rows,
          .n = columns,
          .k = n};
}

template <class Real, class Make>
void multiply(Context& ctx, const std::vector<Iterate>& all, const Make& make) {
  std::vector<kernels::Product<Real>> products;
  for (const Iterate& m : all) products.push_back(make(ctx, m));
  kernels::training_kernels<Real>(ctx).products(ctx, products);
}

template <class Real>
void iterate(Context& ctx, const NewtonSchulz& rule, std::vector<Iterate>& all) {
  multiply<Real>(ctx, all, gram<Real>);
  multiply<Real>(ctx, all, square<Real>);
  // a x + (b G + c G^2) x
  std::vector<kernels::BlendPart<Real>> blends;
  for (const Iterate& m : all)
    blends.push_back({m.gram.data_on<Real>(ctx.device), rule.b, m.factor.data_on<Real>(ctx.device), rule.c,
                      m.gram.num_elements(), rule.a});
  kernels::training_kernels<Real>(ctx).blend(ctx, blends);
  multiply<Real>(ctx, all, next<Real>);
  for (Iterate& m : all) std::swap(m.x, m.next);
}

}  // namespace

std::vector<double> sums_of_squares(Context& ctx, std::span<const ConstTensorRef> tensors) {
  std::vector<double> sums(tensors.size());
  if (tensors.empty()) return sums;
  with_real(ctx, "sums_of_squares", tensors.front().dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::SquaresPart<Real>> parts;
    for (const ConstTensorRef& t : tensors) {
      check("sums_of_squares", t, t);
      parts.push_back({t.data_on<Real>(ctx.device), t.num_elements()});
    }
    kernels.sums_of_squares(ctx, parts, sums.data());
  });
  return sums;
}

void adamw(Context& ctx, const AdamWFactors& factors, std::span<const AdamWTensors> tensors) {
  if (tensors.empty()) return;
  const DType moments = tensors.front().first.dtype();
  with_real(ctx, "adamw", tensors.front().value.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::AdamWPart<Real>> parts;
    for (const AdamWTensors& t : tensors) {
      for (const ConstTensorRef& other : {t.grad, ConstTensorRef(t.first), ConstTensorRef(t.second)})
        check("adamw", t.value, other);
      check_state("adamw", t.first, moments);
      check_state("adamw", t.second, moments);
      parts.push_back({t.grad.data_on<Real>(ctx.device), t.first.raw_on(ctx.device), t.second.raw_on(ctx.device),
                       t.value.data_on<Real>(ctx.device), t.value.num_elements(), t.decay});
    }
    kernels.adamw(ctx, factors, moments, parts);
  });
}

void momentum(Context& ctx, const MomentumFactors& factors, std::span<const MomentumTensors> tensors) {
  if (tensors.empty()) return;
  const DType moments = tensors.front().momentum.dtype();
  with_real(ctx, "momentum", tensors.front().grad.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::MomentumPart<Real>> parts;
    for (const MomentumTensors& t : tensors) {
      check("momentum", t.grad, t.momentum);
      check("momentum", t.grad, t.update);
      check_state("momentum", t.momentum, moments);
      parts.push_back({t.grad.data_on<Real>(ctx.device), t.momentum.raw_on(ctx.device),
                       t.update.data_on<Real>(ctx.device), t.grad.num_elements()});
    }
    kernels.momentum(ctx, factors, moments, parts);
  });
}

void blend(Context& ctx, std::span<const Blend> blends) {
  if (blends.empty()) return;
  with_real(ctx, "blend", blends.front().y.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::BlendPart<Real>> parts;
    for (const Blend& b : blends) {
      check("blend", b.x, b.y);
      parts.push_back(
          {b.x.data_on<Real>(ctx.device), b.of_x, b.y.data_on<Real>(ctx.device), b.of_y, b.y.num_elements()});
    }
    kernels.blend(ctx, parts);
  });
}

void orthogonalize(Context& ctx, const NewtonSchulz& rule, std::span<const TensorRef> matrices) {
  if (matrices.empty()) return;
  const Workspace::Scope scope(ctx.workspace);
  const DType dtype = matrices.front().dtype();
  const std::vector<ConstTensorRef> all_x(matrices.begin(), matrices.end());
  const std::vector<double> squares = sums_of_squares(ctx, all_x);
  std::vector<Iterate> all;
  std::vector<Blend> scaled;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const TensorRef& x = matrices[i];
    HADAL_CHECK(x.rank() == 2, "orthogonalize: a tensor is {}, a matrix was expected", x.shape().to_string());
    const Index n = std::min(x.size(0), x.size(1));
    const TensorRef other = ctx.workspace.tensor(dtype, x.shape());
    // An odd number of steps that begins at the other place ends here.
    const bool there = rule.steps % 2 == 1;
    all.push_back({there ? other : x, there ? x : other, ctx.workspace.tensor(dtype, {n, n}),
                   ctx.workspace.tensor(dtype, {n, n})});
    scaled.push_back({x, 1 / std::max(std::sqrt(squares[i]), rule.eps), all.back().x, 0});
  }
  blend(ctx, scaled);
  for (int step = 0; step < rule.steps; ++step)
    with_real(ctx, "orthogonalize", dtype, [&]<class Real>(Real, const auto&) { iterate<Real>(ctx, rule, all); });
}

std::uint64_t orthogonalize_bytes(const ConstTensorRef& x) {
  const Index n = std::min(x.size(0), x.size(1));
  return static_cast<std::uint64_t>((x.num_elements() + 2 * n * n) * static_cast<Index>(dtype_bytes(x.dtype())));
}

}  // namespace hadal::ops
