// training.h in scalar loops that say what is meant; sums are double. Included once for float and once for double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "hadal/core/error.h"
#include "hadal/kernels/ref/optimizer_impl.h"
#include "hadal/kernels/training.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels::ref {

template <class Real>
struct Training {
  static constexpr Index kElementWork = 8;

  template <class Body>
  static void rows(Context& ctx, Index count, Index work, const Body& body) {
    ctx.threads.parallel_for(count, piece_size(ctx, count, work, 1), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) body(i);
    });
  }

  static void products(Context& ctx, std::span<const Product<Real>> all) {
    for (const Product<Real>& p : all)
      rows(ctx, p.m, p.n * p.k, [&](Index i) {
        for (Index j = 0; j < p.n; ++j) {
          double sum = 0;
          for (Index l = 0; l < p.k; ++l) sum += double{p.a_at(i, l)} * double{p.b_at(l, j)};
          Real& y = p.y[i * p.y_stride + j];
          y = static_cast<Real>(p.add ? double{y} + sum : sum);
        }
      });
  }

  // ---- attention

  static double score(const CausalAttention<Real>& a, Index query, Index key, Index head) {
    double sum = 0;
    for (Index i = 0; i < a.nope(); ++i) sum += double{a.q(query, head, i)} * double{a.kv(key, head, i)};
    for (Index i = 0; i < a.rope(); ++i) sum += double{a.q(query, head, a.nope() + i)} * double{a.k_pe(key, i)};
    return sum * double{a.scale};
  }

  static void attend(Context& ctx, const CausalAttention<Real>& a, View<Real, 3> out, View<Real, 2> lse) {
    for (const RowRange& s : a.sequences)
      rows(ctx, (s.end - s.begin) * a.heads(), (s.end - s.begin) * a.q.shape[2], [&](Index i) {
        const Index t = s.begin + i / a.heads(), h = i % a.heads();
        std::vector<double> p(static_cast<std::size_t>(t + 1 - s.begin));
        for (Index j = s.begin; j <= t; ++j) p[static_cast<std::size_t>(j - s.begin)] = score(a, t, j, h);
        const double largest = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& x : p) sum += x = std::exp(x - largest);
        lse(t, h) = static_cast<Real>(largest + std::log(sum));
        for (Index c = 0; c < a.v(); ++c) {
          double o = 0;
          for (Index j = s.begin; j <= t; ++j)
            o += p[static_cast<std::size_t>(j - s.begin)] * double{a.kv(j, h, a.nope() + c)};
          out(t, h, c) = static_cast<Real>(o / sum);
        }
      });
  }

  // With P = exp(S - lse), O = P V: dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(dO O)), dQ = scale dS K,
  // dK = scale dS^T Q. A key's row of dK and dV is a sum over the queries behind it, ascending.
  static void attend_backward(Context& ctx, const CausalAttention<Real>& a, const AttentionGradient<Real>& g) {
    for (std::size_t q = 0; q < a.sequences.size(); ++q)
      rows(ctx, a.heads(), a.sequences[q].count() * a.sequences[q].count() * a.q.shape[2], [&](Index h) {
        const RowRange s = a.sequences[q];
        const Index n = s.end - s.begin, depth = a.nope() + a.rope();
        double largest = -std::numeric_limits<double>::infinity();
        std::vector<double> dk(static_cast<std::size_t>(n * depth)), dv(static_cast<std::size_t>(n * a.v())),
            dq(static_cast<std::size_t>(depth));
        for (Index t = s.begin; t < s.end; ++t) {
          double of_row = 0;
          for (Index c = 0; c < a.v(); ++c) of_row += double{g.d_out(t, h, c)} * double{g.out(t, h, c)};
          std::fill(dq.begin(), dq.end(), 0.0);
          for (Index j = s.begin; j <= t; ++j) {
            const double of_key = score(a, t, j, h), p = std::exp(of_key - double{g.lse(t, h)});
            largest = std::max(largest, of_key);
            double dp = 0;
            for (Index c = 0; c < a.v(); ++c) dp += double{g.d_out(t, h, c)} * double{a.kv(j, h, a.nope() + c)};
            const double ds = p * (dp - of_row) * double{a.scale};
            double* dk_row = &dk[static_cast<std::size_t>((j - s.begin) * depth)];
            double* dv_row = &dv[static_cast<std::size_t>((j - s.begin) * a.v())];
            for (Index i = 0; i < depth; ++i) {
              const Real key = i < a.nope() ? a.kv(j, h, i) : a.k_pe(j, i - a.nope());
              dq[static_cast<std::size_t>(i)] += ds * double{key};
              dk_row[i] += ds * double{a.q(t, h, i)};
            }
            for (Index c = 0; c < a.v(); ++c) dv_row[c] += p * double{g.d_out(t, h, c)};
          }
          for (Index i = 0; i < depth; ++i) g.d_q(t, h, i) = static_cast<Real>(dq[static_cast<std::size_t>(i)]);
        }
        if (g.largest.data) g.largest(static_cast<Index>(q), h) = static_cast<Real>(largest);
        for (Index j = 0; j < n; ++j) {
          const double* dk_row = &dk[static_cast<std::size_t>(j * depth)];
          const double* dv_row = &dv[static_cast<std::size_t>(j * a.v())];
          for (Index i = 0; i < a.nope(); ++i) g.d_kv(s.begin + j, h, i) = static_cast<Real>(dk_row[i]);
          for (Index i = 0; i < a.rope(); ++i) g.d_k_pe(s.begin + j, h, i) = static_cast<Real>(dk_row[a.nope() + i]);
          for (Index c = 0; c < a.v(); ++c) g.d_kv(s.begin + j, h, a.nope() + c) = static_cast<Real>(dv_row[c]);
        }
      });
  }

  // ---- rows

  static void rms_norm(Context& ctx, View<const Real, 2> x, const Real* weight, double eps, View<Real, 2> y,
                       Real* inverse_rms) {
    const Index n = x.shape[1];
    rows(ctx, x.shape[0], n * kElementWork, [&](Index t) {
      double squares = 0;
      for (Index i = 0; i < n; ++i) squares += double{x(t, i)} * double{x(t, i)};
      const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
      for (Index i = 0; i < n; ++i) y(t, i) = static_cast<Real>(double{x(t, i)} * r * double{weight[i]});
      if (inverse_rms) inverse_rms[t] = static_cast<Real>(r);
    });
  }

  // y = x r w with r = (mean(x^2) + eps)^-1/2: dx = r (w dy) - x r^3 / n * sum(w dy x).
  static void rms_norm_backward(Context& ctx, View<const Real, 2> dy, View<const Real, 2> x, const Real* weight,
                                const Real* inverse_rms, View<Real, 2> dx) {
    const Index n = x.shape[1];
    rows(ctx, x.shape[0], n * kElementWork, [&](Index t) {
      const double r = double{inverse_rms[t]};
      double along = 0;
      for (Index i = 0; i < n; ++i) along += double{weight[i]} * double{dy(t, i)} * double{x(t, i)};
      along *= r * r * r / static_cast<double>(n);
      for (Index i = 0; i < n; ++i)
        dx(t, i) = static_cast<Real>(r * double{weight[i]} * double{dy(t, i)} - double{x(t, i)} * along);
    });
  }

  static void add_rms_norm_weight(Context& ctx, View<const Real, 2> dy, View<const Real, 2> x, const Real* inverse_rms,
                                  Real* d_weight) {
    rows(ctx, x.shape[1], x.shape[0] * kElementWork, [&](Index i) {
      double sum = 0;
      for (Index t = 0; t < x.shape[0]; ++t) sum += double{dy(t, i)} * double{x(t, i)} * double{inverse_rms[t]};
      d_weight[i] = static_cast<Real>(double{d_weight[i]} + sum);
    });
  }

  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

  static void swiglu(Context& ctx, View<const Real, 2> gate, View<const Real, 2> up, View<Real, 2> y) {
    rows(ctx, y.shape[0], y.shape[1] * kElementWork * 2, [&](Index t) {
      for (Index i = 0; i < y.shape[1]; ++i)
        y(t, i) = static_cast<Real>(double{gate(t, i)} * sigmoid(double{gate(t, i)}) * double{up(t, i)});
    });
  }

  // silu(g)' = s (1 + g (1 - s)) with s = sigmoid(g).
  static void swiglu_backward(Context& ctx, const SwigluGradient<Real>& a) {
    const Index n = a.gate.shape[1];
    rows(ctx, a.gate.shape[0], n * kElementWork * 2, [&](Index t) {
      const double weight = a.weight ? double{a.weight[t]} : 1.0;
      double along = 0;
      for (Index i = 0; i < n; ++i) {
        const double g = double{a.gate(t, i)}, u = double{a.up(t, i)}, s = sigmoid(g), d = double{a.d_inner(t, i)};
        const double inner = g * s * u;
        along += inner * d;
        a.weighted_inner(t, i) = static_cast<Real>(weight * inner);
        a.d_up(t, i) = static_cast<Real>(weight * d * g * s);
        a.d_gate(t, i) = static_cast<Real>(weight * d * u * s * (1 + g * (1 - s)));
      }
      if (a.d_weight) a.d_weight[t] = static_cast<Real>(along);
    });
  }

  static void add(Context& ctx, View<const Real, 2> x, View<Real, 2> y) {
    rows(ctx, y.shape[0], y.shape[1], [&](Index t) {
      for (Index i = 0; i < y.shape[1]; ++i) y(t, i) += x(t, i);
    });
  }

  static void copy(Context& ctx, View<const Real, 3> x, View<Real, 3> y) {
    rows(ctx, x.shape[0], x.shape[1] * x.shape[2], [&](Index t) {
      for (Index h = 0; h < x.shape[1]; ++h)
        std::memcpy(&y(t, h, 0), &x(t, h, 0), static_cast<std::size_t>(x.shape[2]) * sizeof(Real));
    });
  }

  static void rope(Context& ctx, View<const Real, 3> x, View<const double, 2> cos, View<const double, 2> sin,
                   bool inverse, View<Real, 3> y) {
    const double sign = inverse ? -1 : 1;
    rows(ctx, x.shape[0], x.shape[1] * x.shape[2] * kElementWork, [&](Index t) {
      for (Index h = 0; h < x.shape[1]; ++h)
        for (Index i = 0; i < x.shape[2] / 2; ++i) {
          const double a = double{x(t, h, 2 * i)}, b = double{x(t, h, 2 * i + 1)}, c = cos(t, i), s = sign * sin(t, i);
          y(t, h, 2 * i) = static_cast<Real>(a * c - b * s);
          y(t, h, 2 * i + 1) = static_cast<Real>(a * s + b * c);
        }
    });
  }

  static void sum_heads(Context& ctx, View<const Real, 3> x, View<Real, 2> y) {
    rows(ctx, x.shape[0], x.shape[1] * x.shape[2], [&](Index t) {
      for (Index i = 0; i < x.shape[2]; ++i) {
        double sum = 0;
        for (Index h = 0; h < x.shape[1]; ++h) sum += double{x(t, h, i)};
        y(t, i) = static_cast<Real>(sum);
      }
    });
  }

  static void gather(Context& ctx, View<const Real, 2> x, std::span<const Index> which, View<Real, 2> y) {
    rows(ctx, y.shape[0], y.shape[1], [&](Index r) {
      std::memcpy(y.row(r), x.row(which[static_cast<std::size_t>(r)]),
                  static_cast<std::size_t>(y.shape[1]) * sizeof(Real));
    });
  }

  static void combine(Context& ctx, View<const Real, 2> x, std::span<const Index> which, View<const Real, 2> weights,
                      Index k, View<Real, 2> y) {
    rows(ctx, y.shape[0], k * y.shape[1], [&](Index t) {
      for (Index i = 0; i < y.shape[1]; ++i) {
        double sum = 0;
        for (Index s = 0; s < k; ++s)
          sum +=
              (weights.data ? double{weights(t, s)} : 1.0) * double{x(which[static_cast<std::size_t>(t * k + s)], i)};
        y(t, i) = static_cast<Real>(sum);
      }
    });
  }

  static void add_embedding(Context& ctx, View<const Real, 2> dy, std::span<const std::int32_t> ids,
                            View<Real, 2> d_table) {
    constexpr Index kPiece = 16;  // columns
    const Index pieces = (dy.shape[1] + kPiece - 1) / kPiece;
    rows(ctx, pieces, dy.shape[0] * kPiece, [&](Index p) {
      const Index end = std::min((p + 1) * kPiece, dy.shape[1]);
      for (Index t = 0; t < dy.shape[0]; ++t)
        for (Index i = p * kPiece; i < end; ++i) d_table(ids[static_cast<std::size_t>(t)], i) += dy(t, i);
    });
  }

  // ---- the gate

  static void score(const GateArgs& a, const Real* logits, double* s) {
    const Index n = a.n_routed_experts;
    if (a.sigmoid) {
      for (Index e = 0; e < n; ++e) s[e] = sigmoid(double{logits[e]});
      return;
    }
    const double largest = double{*std::max_element(logits, logits + n)};
    double sum = 0;
    for (Index e = 0; e < n; ++e) sum += s[e] = std::exp(double{logits[e]} - largest);
    for (Index e = 0; e < n; ++e) s[e] /= sum;
  }

  static void gate(Context& ctx, const GateArgs& a, View<const Real, 2> logits, View<std::int32_t, 2> experts,
                   View<Real, 2> weights) {
    for (Index t = 0; t < logits.shape[0]; ++t)
      for (Index e = 0; e < a.n_routed_experts; ++e)
        HADAL_CHECK(std::isfinite(logits(t, e)),
                    "gate: the router's score of expert {} is {}, a finite number was "
                    "expected",
                    e, logits(t, e));
    rows(ctx, logits.shape[0], a.n_routed_experts * kElementWork * 4, [&](Index t) {
      std::vector<double> scratch(static_cast<std::size_t>(3 * a.n_routed_experts));
      score(a, logits.row(t), scratch.data());
      choose(a, scratch.data(), experts.row(t));
      const double factor = weight_factor(a, scratch.data(), experts.row(t));
      for (Index s = 0; s < a.num_experts_per_tok; ++s)
        weights(t, s) = static_cast<Real>(scratch[static_cast<std::size_t>(experts(t, s))] * factor);
    });
  }

  // What chosen scores are multiplied by.
  static double weight_factor(const GateArgs& a, const double* scores, const std::int32_t* experts) {
    if (!a.norm_topk_prob) return a.routed_scaling_factor;
    return a.routed_scaling_factor / (chosen_sum(a, scores, experts) + 1e-20);
  }
  static double chosen_sum(const GateArgs& a, const double* scores, const std::int32_t* experts) {
    double sum = 0;
    for (Index s = 0; s < a.num_experts_per_tok; ++s) sum += scores[experts[s]];
    return sum;
  }

  // w_j = c s_j / sum of the chosen s: ds_j = c / sum (dw_j - sum_i dw_i s_i / sum); without normalising c dw_j. The
  // balance loss sees p_j = s_j / sum of all s, of which the mean over a sequence is taken.
  static void gate_backward(Context& ctx, const GateArgs& a, const GateGradient<Real>& g) {
    const Index n = a.n_routed_experts;
    for (std::size_t q = 0; q < g.sequences.size(); ++q) {
      const RowRange range = g.sequences[q];
      const double balance = g.balance / static_cast<double>(range.end - range.begin);
      const Real* load = g.load.row(static_cast<Index>(q));
      rows(ctx, range.end - range.begin, n * kElementWork * 2, [&](Index i) {
        const Index t = range.begin + i;
        std::vector<double> s(static_cast<std::size_t>(n)), ds(static_cast<std::size_t>(n), 0.0);
        score(a, g.logits.row(t), s.data());
        const std::int32_t* chosen = g.experts.row(t);
        const double factor = weight_factor(a, s.data(), chosen), sum = chosen_sum(a, s.data(), chosen) + 1e-20;
        double along = 0;
        for (Index k = 0; a.norm_topk_prob && k < a.num_experts_per_tok; ++k)
          along += double{g.d_weights(t, k)} * s[static_cast<std::size_t>(chosen[k])] / sum;
        for (Index k = 0; k < a.num_experts_per_tok; ++k)
          ds[static_cast<std::size_t>(chosen[k])] += factor * (double{g.d_weights(t, k)} - along);
        double all = 0, share = 0;
        for (const double x : s) all += x;
        for (Index e = 0; e < n; ++e) share += double{load[e]} * s[static_cast<std::size_t>(e)] / all;
        for (Index e = 0; e < n; ++e) ds[static_cast<std::size_t>(e)] += balance * (double{load[e]} - share) / all;
        to_logits(a, s.data(), ds.data(), g.d_logits.row(t));
      });
    }
  }

  static void to_logits(const GateArgs& a, const double* s, const double* ds, Real* d_logits) {
    const Index n = a.n_routed_experts;
    double along = 0;
    for (Index e = 0; !a.sigmoid && e < n; ++e) along += ds[e] * s[e];
    for (Index e = 0; e < n; ++e)
      d_logits[e] = static_cast<Real>(a.sigmoid ? ds[e] * s[e] * (1 - s[e]) : s[e] * (ds[e] - along));
  }

  static double balance(Context&, const GateArgs& a, const BalanceArgs<Real>& b) {
    const Index n = a.n_routed_experts;
    GateArgs plain = a;
    plain.n_group = plain.topk_group = 1;
    plain.bias = nullptr;
    double total = 0;
    std::vector<double> scratch(static_cast<std::size_t>(3 * n)), mean(static_cast<std::size_t>(n));
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(a.num_experts_per_tok));
    std::vector<double> load(static_cast<std::size_t>(n));
    for (std::size_t q = 0; q < b.sequences.size(); ++q) {
      const RowRange range = b.sequences[q];
      const auto length = static_cast<double>(range.end - range.begin);
      std::fill(mean.begin(), mean.end(), 0.0);
      std::fill(load.begin(), load.end(), 0.0);
      for (Index t = range.begin; t < range.end; ++t) {
        score(a, b.logits.row(t), scratch.data());
        double all = 0;
        for (Index e = 0; e < n; ++e) all += scratch[static_cast<std::size_t>(e)];
        for (Index e = 0; e < n; ++e)
          mean[static_cast<std::size_t>(e)] += scratch[static_cast<std::size_t>(e)] / all / length;
        choose(plain, scratch.data(), chosen.data());
        for (const std::int32_t e : chosen) load[static_cast<std::size_t>(e)] += 1;
      }
      const double factor = static_cast<double>(n) / (static_cast<double>(a.num_experts_per_tok) * length);
      for (Index e = 0; e < n; ++e) {
        const auto i = static_cast<std::size_t>(e);
        b.load(static_cast<Index>(q), e) = static_cast<Real>(load[i] * factor);
        total += load[i] * factor * mean[i];
      }
    }
    return total;
  }

  static void cross_entropy(Context& ctx, View<Real, 2> logits, std::span<const std::int32_t> targets, double scale,
                            double* losses) {
    const Index n = logits.shape[1];
    rows(ctx, logits.shape[0], n * kElementWork * 4, [&](Index t) {
      Real* row = logits.row(t);
      const std::int32_t target = targets[static_cast<std::size_t>(t)];
      losses[t] = 0;
      if (target < 0) {
        std::fill_n(row, n, Real{0});
        return;
      }
      const double largest = double{*std::max_element(row, row + n)};
      double sum = 0;
      for (Index i = 0; i < n; ++i) sum += std::exp(double{row[i]} - largest);
      losses[t] = largest + std::log(sum) - double{row[target]};
      for (Index i = 0; i < n; ++i)
        row[i] = static_cast<Real>(scale * (std::exp(double{row[i]} - largest) / sum - (i == target ? 1 : 0)));
    });
  }

  static constexpr TrainingKernels<Real> table() {
    return {products,
            attend,
            attend_backward,
            rms_norm,
            rms_norm_backward,
            add_rms_norm_weight,
            swiglu,
            swiglu_backward,
            add,
            copy,
            rope,
            sum_heads,
            gather,
            combine,
            add_embedding,
            gate,
            gate_backward,
            balance,
            cross_entropy,
            Optimizer<Real>::sums_of_squares,
            Optimizer<Real>::adamw,
            Optimizer<Real>::momentum,
            Optimizer<Real>::blend};
  }
};

}  // namespace hadal::kernels::ref
