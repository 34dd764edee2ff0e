// optimizer.h in scalar loops, in double. Included once for float and once for double.
#pragma once

#include <cmath>
#include <type_traits>

#include "hadal/core/error.h"
#include "hadal/core/number_formats.h"
#include "hadal/kernels/optimizer.h"

namespace hadal::kernels::ref {

template <class Real>
struct Optimizer {
  template <class T>
  static double read(T x) {
    if constexpr (std::is_same_v<T, bf16>)
      return double{bf16_to_float(x)};
    else
      return double{x};
  }
  template <class T>
  static T rounded(double x) {
    if constexpr (std::is_same_v<T, bf16>)
      return float_to_bf16(static_cast<float>(x));
    else
      return static_cast<T>(x);
  }
  // f(Moment{}) of a dtype.
  template <class F>
  static void with_moment(DType dtype, const F& f) {
    if (dtype == DType::kBF16)
      f(bf16{});
    else if (dtype == DType::kF64)
      f(double{});
    else
      f(float{});
  }

  static double squares(const Real* x, Index n) {
    double lanes[8] = {};
    Index i = 0;
    for (; i + 8 <= n; i += 8)
      for (int l = 0; l < 8; ++l) lanes[l] += double{x[i + l]} * double{x[i + l]};
    for (; i < n; ++i) lanes[0] += double{x[i]} * double{x[i]};
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    return sum;
  }
  static void sums_of_squares(Context& ctx, std::span<const SquaresPart<Real>> parts, double* sums) {
    sum_pieces(ctx, parts, sums, squares);
  }

  static void adamw(Context& ctx, const AdamWFactors& f, DType moments, std::span<const AdamWPart<Real>> parts) {
    with_moment(moments, [&]<class Moment>(Moment) {
      for_pieces(ctx, parts, [&](std::size_t, const OptimizerPiece& piece) {
        const AdamWPart<Real>& p = parts[piece.part];
        auto *first = static_cast<Moment*>(p.first), *second = static_cast<Moment*>(p.second);
        for (Index i = piece.begin; i < piece.end; ++i) {
          const double g = double{p.grad[i]} * f.gradient;
          const double m = f.beta1 * read(first[i]) + (1 - f.beta1) * g;
          const double v = f.beta2 * read(second[i]) + (1 - f.beta2) * g * g;
          first[i] = rounded<Moment>(m);
          second[i] = rounded<Moment>(v);
          p.value[i] =
              static_cast<Real>(double{p.value[i]} * p.decay - f.correction * m / (std::sqrt(v) * f.root + f.eps));
        }
      });
    });
  }

  static void momentum(Context& ctx, const MomentumFactors& f, DType moments,
                       std::span<const MomentumPart<Real>> parts) {
    with_moment(moments, [&]<class Moment>(Moment) {
      for_pieces(ctx, parts, [&](std::size_t, const OptimizerPiece& piece) {
        const MomentumPart<Real>& p = parts[piece.part];
        auto* momentum = static_cast<Moment*>(p.momentum);
        for (Index i = piece.begin; i < piece.end; ++i) {
          const double g = (1 - f.mu) * double{p.grad[i]} * f.gradient;
          const double m = f.mu * read(momentum[i]) + g;
          momentum[i] = rounded<Moment>(m);
          p.update[i] = static_cast<Real>(f.nesterov ? g + f.mu * m : m);
        }
      });
    });
  }

  static void blend(Context& ctx, std::span<const BlendPart<Real>> parts) {
    for_pieces(ctx, parts, [&](std::size_t, const OptimizerPiece& piece) {
      const BlendPart<Real>& p = parts[piece.part];
      for (Index i = piece.begin; i < piece.end; ++i) {
        const double x = p.x ? p.of_x * double{p.x[i]} : 0.0, y = p.of_y != 0 ? p.of_y * double{p.y[i]} : 0.0;
        p.y[i] = static_cast<Real>(x + y);
      }
      add_diagonal(p, piece);
    });
  }

  // The part of the diagonal that is in a piece.
  static void add_diagonal(const BlendPart<Real>& p, const OptimizerPiece& piece) {
    if (p.diagonal == 0) return;
    const auto step = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(p.n)))) + 1;
    for (Index i = (piece.begin + step - 1) / step * step; i < piece.end; i += step)
      p.y[i] = static_cast<Real>(double{p.y[i]} + p.diagonal);
  }
};

}  // namespace hadal::kernels::ref
