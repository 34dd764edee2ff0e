#include "hadal/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "hadal/core/number_formats.h"

namespace hadal::train {
namespace {

constexpr Index kPiece = 1 << 14;  // elements; sums are made piece by piece, whatever the number of threads

struct Piece {
  std::size_t parameter;
  Index begin, end;
};

std::vector<Piece> pieces_of(const Parameters& parameters) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    const Tensor& grad = parameters.all()[i].grad;
    if (!grad) continue;
    const Index n = grad->num_elements();
    for (Index begin = 0; begin < n; begin += kPiece) pieces.push_back({i, begin, std::min(begin + kPiece, n)});
  }
  return pieces;
}

template <class F>
void for_each_piece(Context& ctx, const std::vector<Piece>& pieces, const F& f) {
  ctx.threads.parallel_for(static_cast<Index>(pieces.size()), 4, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) f(static_cast<std::size_t>(i), pieces[static_cast<std::size_t>(i)]);
  });
}

// f(Real{}) of a tensor's dtype.
template <class F>
void with_real(DType dtype, const F& f) {
  if (dtype == DType::kF64)
    f(double{});
  else
    f(float{});
}

template <class T>
double to_double(T x) {
  if constexpr (std::is_same_v<T, bf16>)
    return double{bf16_to_float(x)};
  else
    return double{x};
}
template <class T>
T from_double(double x) {
  if constexpr (std::is_same_v<T, bf16>)
    return float_to_bf16(static_cast<float>(x));
  else
    return static_cast<T>(x);
}

struct StepSizes {
  double beta1, beta2, eps;
  double decay;       // 1 - learning rate * weight decay
  double correction;  // learning rate / (1 - beta1^t)
  double root;        // 1 / sqrt(1 - beta2^t)
};

template <class Real, class Moment>
void adamw(const StepSizes& s, const Real* grad, Moment* first, Moment* second, Real* value, Index n) {
  for (Index i = 0; i < n; ++i) {
    const double g = double{grad[i]};
    const double m = s.beta1 * to_double(first[i]) + (1 - s.beta1) * g;
    const double v = s.beta2 * to_double(second[i]) + (1 - s.beta2) * g * g;
    first[i] = from_double<Moment>(m);
    second[i] = from_double<Moment>(v);
    value[i] = static_cast<Real>(double{value[i]} * s.decay - s.correction * m / (std::sqrt(v) * s.root + s.eps));
  }
}

}  // namespace

double gradient_norm(Context& ctx, const Parameters& parameters) {
  const std::vector<Piece> pieces = pieces_of(parameters);
  std::vector<double> sums(pieces.size());
  for_each_piece(ctx, pieces, [&](std::size_t i, const Piece& p) {
    const TensorRef& grad = parameters.all()[p.parameter].grad;
    with_real(grad.dtype(), [&]<class Real>(Real) {
      const Real* g = grad.data<Real>();
      double lanes[8] = {};
      Index j = p.begin;
      for (; j + 8 <= p.end; j += 8)
        for (int l = 0; l < 8; ++l) lanes[l] += double{g[j + l]} * double{g[j + l]};
      for (; j < p.end; ++j) lanes[0] += double{g[j]} * double{g[j]};
      for (const double lane : lanes) sums[i] += lane;
    });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

void clip_gradients(Context& ctx, Parameters& parameters, double norm, double most) {
  if (!(norm > most)) return;
  const double factor = most / norm;
  for_each_piece(ctx, pieces_of(parameters), [&](std::size_t, const Piece& p) {
    const TensorRef& grad = parameters.all()[p.parameter].grad;
    with_real(grad.dtype(), [&]<class Real>(Real) {
      for (Index j = p.begin; j < p.end; ++j) grad.data<Real>()[j] *= static_cast<Real>(factor);
    });
  });
}

AdamW::AdamW(const Parameters& parameters, const AdamWOptions& options, DType moments) : options_(options) {
  HADAL_CHECK(moments == DType::kF32 || moments == DType::kBF16 || moments == DType::kF64,
              "adamw: moments are F32, BF16 or F64, not {}", dtype_name(moments));
  for (const Parameter& p : parameters.all()) {
    Moments& m = moments_.emplace_back();
    if (!p.grad) continue;
    m.first = Tensor::zeros(moments, p.info.shape);
    m.second = Tensor::zeros(moments, p.info.shape);
  }
}

void AdamW::step(Context& ctx, Parameters& parameters, double learning_rate) {
  ++steps_;
  StepSizes s{options_.beta1, options_.beta2, options_.eps, 1, 0, 0};
  s.correction = learning_rate / (1 - std::pow(options_.beta1, static_cast<double>(steps_)));
  s.root = 1 / std::sqrt(1 - std::pow(options_.beta2, static_cast<double>(steps_)));
  for_each_piece(ctx, pieces_of(parameters), [&](std::size_t, const Piece& piece) {
    const Parameter& p = parameters.all()[piece.parameter];
    const Moments& m = moments_[piece.parameter];
    StepSizes own = s;
    if (weights::decay_group(p.info.role) == weights::DecayGroup::kDecay)
      own.decay = 1 - learning_rate * options_.weight_decay;
    const Index n = piece.end - piece.begin;
    with_real(p.value.dtype(), [&]<class Real>(Real) {
      const Real* grad = p.grad->data<Real>() + piece.begin;
      Real* value = p.value->data<Real>() + piece.begin;
      const auto run = [&]<class Moment>(Moment) {
        adamw(own, grad, m.first->data<Moment>() + piece.begin, m.second->data<Moment>() + piece.begin, value, n);
      };
      if (m.first.dtype() == DType::kBF16)
        run(bf16{});
      else if (m.first.dtype() == DType::kF64)
        run(double{});
      else
        run(float{});
    });
  });
}

std::uint64_t AdamW::bytes() const {
  std::uint64_t total = 0;
  for (const Moments& m : moments_)
    if (m.first) total += static_cast<std::uint64_t>(2 * m.first->num_bytes());
  return total;
}

void step_routing_bias(Parameters& parameters, const std::vector<std::vector<Index>>& counts, double gamma) {
  std::size_t layer = 0;
  for (Parameter& p : parameters.all()) {
    if (p.info.role != weights::ParamRole::kRouterBias) continue;
    HADAL_CHECK(layer < counts.size() && static_cast<Index>(counts[layer].size()) == p.value.size(0),
                "training: the load of {} is not known", p.name);
    const std::vector<Index>& load = counts[layer++];
    Index total = 0;
    for (const Index n : load) total += n;
    const double mean = static_cast<double>(total) / static_cast<double>(load.size());
    with_real(p.value.dtype(), [&]<class Real>(Real) {
      Real* bias = p.value->data<Real>();
      for (std::size_t e = 0; e < load.size(); ++e) {
        const double error = mean - static_cast<double>(load[e]);
        bias[e] = static_cast<Real>(double{bias[e]} + gamma * static_cast<double>((error > 0) - (error < 0)));
        if (p.bound) p.bound->data<float>()[e] = static_cast<float>(bias[e]);
      }
    });
  }
}

}  // namespace hadal::train
