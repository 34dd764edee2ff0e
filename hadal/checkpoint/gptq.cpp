#include "hadal/checkpoint/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hadal/core/number_formats.h"
#include "hadal/ops/linear.h"
#include "hadal/ops/quantize_int.h"

namespace hadal::checkpoint {
namespace {

constexpr double kDamping = 0.01;  // of the mean diagonal, as in the paper
// Scales that are tried, as shares of amax / 7.5: clipping the largest weights can serve the others.
constexpr float kLeastShare = 0.6f, kMostShare = 1.1f, kShareStep = 0.025f;

using Matrix = std::vector<double>;

// X^T X of columns [begin, begin + width), with damping on the diagonal.
Matrix damped_hessian(Context& ctx, const ConstTensorRef& inputs, Index begin, Index width) {
  const Workspace::Scope scope(ctx.workspace);
  const Index tokens = inputs.size(0);
  const TensorRef turned = ctx.workspace.floats({width, tokens});
  const auto from = inputs.view<float, 2>();
  const auto to = turned.view<float, 2>();
  for (Index t = 0; t < tokens; ++t)
    for (Index c = 0; c < width; ++c) to(c, t) = from(t, begin + c);
  const auto product = ops::linear_unrounded(ctx, turned, {.values = turned}).view<float, 2>();
  Matrix h(static_cast<std::size_t>(width * width));
  double trace = 0;
  for (Index i = 0; i < width; ++i) {
    for (Index j = 0; j < width; ++j) h[static_cast<std::size_t>(i * width + j)] = product(i, j);
    trace += product(i, i);
  }
  const double damping = std::max(kDamping * trace / static_cast<double>(width), 1e-12);
  for (Index i = 0; i < width; ++i) h[static_cast<std::size_t>(i * width + i)] += damping;
  return h;
}

// H = R R^T with R upper triangular, in place (a Cholesky decomposition from the last row up).
void decompose(Matrix& h, Index n) {
  const auto at = [&](Index i, Index j) -> double& { return h[static_cast<std::size_t>(i * n + j)]; };
  for (Index j = n - 1; j >= 0; --j) {
    double square = at(j, j);
    for (Index k = j + 1; k < n; ++k) square -= at(j, k) * at(j, k);
    const double root = std::sqrt(std::max(square, 1e-300));
    at(j, j) = root;
    for (Index i = 0; i < j; ++i) {
      double sum = at(i, j);
      for (Index k = j + 1; k < n; ++k) sum -= at(i, k) * at(j, k);
      at(i, j) = sum / root;
    }
  }
}

// U = R^-1, so that H^-1 = U^T U.
std::vector<float> inverse_of_upper(const Matrix& r, Index n) {
  Matrix u(r.size(), 0.0);
  for (Index i = n - 1; i >= 0; --i) {
    double* row = &u[static_cast<std::size_t>(i * n)];
    for (Index k = i + 1; k < n; ++k) {
      const double factor = r[static_cast<std::size_t>(i * n + k)];
      const double* below = &u[static_cast<std::size_t>(k * n)];
      for (Index j = k; j < n; ++j) row[j] -= factor * below[j];
    }
    const double diagonal = r[static_cast<std::size_t>(i * n + i)];
    for (Index j = i + 1; j < n; ++j) row[j] /= diagonal;
    row[i] = 1 / diagonal;
  }
  return {u.begin(), u.end()};
}

float round_code(float x, float scale) {
  const float code = std::nearbyint(x / scale);
  return std::isnan(code) ? 0 : std::clamp(code, -8.0f, 7.0f);
}

// The scale that makes the weighted squares of the rounding errors least.
bf16 best_scale(const float* x, const float* weight, Index n) {
  float amax = 0;
  for (Index i = 0; i < n; ++i) {
    if (std::isnan(x[i])) return float_to_bf16(x[i]);  // damage shows in the scale
    amax = std::max(amax, std::abs(x[i]));
  }
  bf16 best = float_to_bf16(amax / 7.5f);
  if (best.bits == 0) return float_to_bf16(1);
  double least = HUGE_VAL;
  for (float share = kLeastShare; share <= kMostShare; share += kShareStep) {
    const bf16 stored = float_to_bf16(share * amax / 7.5f);
    const float s = bf16_to_float(stored);
    if (!(s > 0)) continue;
    double error = 0;
    for (Index i = 0; i < n; ++i) {
      const float difference = x[i] - round_code(x[i], s) * s;
      error += double{weight[i]} * difference * difference;
    }
    if (error < least) least = error, best = stored;
  }
  return best;
}

}  // namespace

Gptq::Gptq(Context& ctx, const ConstTensorRef& inputs, Index columns) : columns_(columns) {
  std::vector<Matrix> hessians;
  for (Index begin = 0; begin < columns; begin += kSpan) {
    const Index width = std::min(kSpan, columns - begin);
    spans_.push_back({begin, width, {}, std::vector<float>(static_cast<std::size_t>(width), 1.0f)});
    if (inputs && inputs.size(0) > 0) hessians.push_back(damped_hessian(ctx, inputs, begin, width));
  }
  ctx.threads.parallel_for(static_cast<Index>(hessians.size()), 1, [&](Index begin, Index end) {
    for (auto s = static_cast<std::size_t>(begin); s < static_cast<std::size_t>(end); ++s) {
      Span& span = spans_[s];
      decompose(hessians[s], span.width);
      span.upper = inverse_of_upper(hessians[s], span.width);
      for (Index c = 0; c < span.width; ++c) {
        const float diagonal = span.upper[static_cast<std::size_t>(c * span.width + c)];
        span.weight[static_cast<std::size_t>(c)] = 1 / (diagonal * diagonal);
      }
    }
  });
}

void Gptq::quantize_row(float* x, Index group, std::uint8_t* codes, bf16* scales) const {
  for (const Span& span : spans_) {
    float* w = x + span.begin;
    float scale = 1;
    for (Index c = 0; c < span.width; ++c) {
      if (c % group == 0) {
        bf16& stored = scales[(span.begin + c) / group];
        stored = best_scale(w + c, &span.weight[static_cast<std::size_t>(c)], std::min(group, span.width - c));
        scale = bf16_to_float(stored);
      }
      const float code = round_code(w[c], scale);
      codes[span.begin + c] = static_cast<std::uint8_t>(code + 8);
      if (span.upper.empty()) continue;
      const float* row = &span.upper[static_cast<std::size_t>(c * span.width)];
      const float error = (w[c] - code * scale) / row[c];
      for (Index j = c + 1; j < span.width; ++j) w[j] -= error * row[j];
    }
  }
}

void Gptq::quantize(Context& ctx, const ConstTensorRef& x, Index group, const TensorRef& packed,
                    const TensorRef& scale) const {
  HADAL_CHECK(x.size(1) == columns_ && kSpan % group == 0, "gptq: {} columns in groups of {}, made for {}", x.size(1),
              group, columns_);
  const auto from = x.view<float, 2>();
  const auto to = packed.view<std::int32_t, 2>();
  const auto scales = scale.view<bf16, 2>();
  ctx.threads.parallel_for(x.size(0), 1, [&](Index begin, Index end) {
    std::vector<float> row(static_cast<std::size_t>(columns_));
    std::vector<std::uint8_t> codes(row.size());
    for (Index r = begin; r < end; ++r) {
      std::memcpy(row.data(), from.row(r), row.size() * sizeof(float));
      quantize_row(row.data(), group, codes.data(), scales.row(r));
      ops::pack_int4(codes.data(), columns_, to.row(r));
    }
  });
}

}  // namespace hadal::checkpoint
