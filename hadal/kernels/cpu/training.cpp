// What training computes on the fast kernels; what there is none for is the reference's.
#include <algorithm>
#include <limits>
#include <vector>

#include "hadal/kernels/cpu/optimizer.h"
#include "hadal/kernels/cpu/product.h"
#include "hadal/kernels/cpu/products.h"
#include "hadal/kernels/cpu/training_rows.h"
#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/ref/training_impl.h"

namespace hadal::kernels::cpu {
namespace {

// How a product is cut.
struct Cut {
  Index rows, columns;  // of a piece
  Index row_pieces, column_pieces;
  Index count() const { return row_pieces * column_pieces; }
};

Cut cut(const Product<float>& p, Index row_pieces, Index column_pieces) {
  constexpr Index kRowUnit = 12, kColumnUnit = 32;
  const auto size = [](Index n, Index pieces, Index unit) {
    return ((n + pieces - 1) / pieces + unit - 1) / unit * unit;
  };
  const Index rows = size(p.m, row_pieces, kRowUnit), columns = size(p.n, column_pieces, kColumnUnit);
  return {rows, columns, (p.m + rows - 1) / rows, (p.n + columns - 1) / columns};
}

// Pieces as alike and as large as they can be; of a product that is alone, such that threads end together. A row and a
// column of a piece are packed once, which takes about as long as multiplying kPacking numbers with them.
Cut cut(const Product<float>& p, const ProductKernels& k, Index threads) {
  constexpr Index kPacking = 32, kTries = 8;
  const Index row_pieces = (p.m + k.piece_rows - 1) / k.piece_rows,
              column_pieces = (p.n + k.piece_columns - 1) / k.piece_columns;
  Cut best = cut(p, row_pieces, column_pieces);
  const auto time = [&](const Cut& c) {
    return (c.count() + threads - 1) / threads * (c.rows * c.columns + kPacking * (c.rows + c.columns));
  };
  for (Index r = row_pieces; threads > 1 && r < row_pieces + kTries; ++r)
    for (Index c = column_pieces; c < column_pieces + kTries; ++c)
      if (const Cut other = cut(p, r, c); time(other) < time(best)) best = other;
  return best;
}

const ProductKernels& product_kernels(const Context& ctx) {
  return ctx.numerics.isa == Isa::kAvx2 ? avx2::kProducts : avx512::kProducts;
}

void products(Context& ctx, std::span<const Product<float>> all) {
  const ProductKernels& k = product_kernels(ctx);
  const Workspace::Scope scope(ctx.workspace);
  const ThreadScratch scratch(ctx, k.scratch_floats() * static_cast<Index>(sizeof(float)));
  std::vector<Cut> cuts;
  std::vector<Index> end;
  Index work = 0;
  for (const Product<float>& p : all) {
    cuts.push_back(cut(p, k, all.size() == 1 ? ctx.threads.num_threads() : 1));
    end.push_back((end.empty() ? 0 : end.back()) + cuts.back().count());
    work += p.m * p.n * p.k;
  }
  if (end.empty() || end.back() == 0) return;
  const Index grain = work < kSmallWork ? end.back() : 1;
  ctx.threads.parallel_for(end.back(), grain, [&](Index first, Index last) {
    for (Index piece = first; piece < last; ++piece) {
      const auto i = static_cast<std::size_t>(std::upper_bound(end.begin(), end.end(), piece) - end.begin());
      const Cut& c = cuts[i];
      const Index at = piece - (i ? end[i - 1] : 0), row = at / c.column_pieces * c.rows,
                  column = at % c.column_pieces * c.columns;
      k.piece(all[i], row, std::min(row + c.rows, all[i].m), column, std::min(column + c.columns, all[i].n),
              static_cast<float*>(scratch.mine()));
    }
  });
}

// ---- attention, a head of a sequence at a time

// Queries and keys of a block: small enough that a block's scores and their gradients stay in the L1 cache's neighbour.
constexpr Index kSide = 64;

// One head of one sequence. Keys are copied side by side (k_nope and k_pe) first, and their gradients back at the end.
class HeadBackward {
 public:
  HeadBackward(const ProductKernels& kernels, const CausalAttention<float>& a, const AttentionGradient<float>& g,
               Index sequence, Index head, float* memory)
      : kernels_(kernels), a_(a), g_(g), sequence_(sequence), s_(a.sequences[static_cast<std::size_t>(sequence)]),
        h_(head), n_(s_.count()), depth_(a.q.shape[2]) {
    scratch_ = memory;
    k_ = scratch_ + kernels.scratch_floats();
    dk_ = k_ + n_ * depth_;
    dv_ = dk_ + n_ * depth_;
    scores_ = dv_ + n_ * a.v();
    dp_ = scores_ + kSide * kSide;
  }
  static Index floats(const ProductKernels& kernels, const CausalAttention<float>& a, Index n) {
    return kernels.scratch_floats() + n * (2 * a.q.shape[2] + a.v()) + 2 * kSide * kSide;
  }

  void run() {
    gather_keys();
    std::fill_n(dk_, n_ * (depth_ + a_.v()), 0.0f);
    for (Index i = 0; i < n_; i += kSide) {
      for (Index r = 0; r < std::min(kSide, n_ - i); ++r) {
        const Index t = s_.begin + i + r;
        std::fill_n(&g_.d_q(t, h_, 0), depth_, 0.0f);
        along_[r] = avx2::dot(&g_.d_out(t, h_, 0), &g_.out(t, h_, 0), a_.v());
      }
      for (Index j = 0; j <= i; j += kSide) block(i, j);
    }
    scatter_keys();
    if (g_.largest.data) g_.largest(sequence_, h_) = largest_ * a_.scale;
  }

 private:
  void gather_keys() {
    for (Index j = 0; j < n_; ++j) {
      std::copy_n(&a_.kv(s_.begin + j, h_, 0), a_.nope(), k_ + j * depth_);
      std::copy_n(a_.k_pe.row(s_.begin + j), a_.rope(), k_ + j * depth_ + a_.nope());
    }
  }
  void scatter_keys() {
    for (Index j = 0; j < n_; ++j) {
      std::copy_n(dk_ + j * depth_, a_.nope(), &g_.d_kv(s_.begin + j, h_, 0));
      std::copy_n(dk_ + j * depth_ + a_.nope(), a_.rope(), &g_.d_k_pe(s_.begin + j, h_, 0));
      std::copy_n(dv_ + j * a_.v(), a_.v(), &g_.d_kv(s_.begin + j, h_, a_.nope()));
    }
  }

  void multiply(const Product<float>& p) { kernels_.piece(p, 0, p.m, 0, p.n, scratch_); }

  void block(Index i, Index j) {
    const Index m = std::min(kSide, n_ - i), n = std::min(kSide, n_ - j), v = a_.v();
    const float* q = &a_.q(s_.begin + i, h_, 0);
    const float* values = &a_.kv(s_.begin + j, h_, a_.nope());
    const float* d_out = &g_.d_out(s_.begin + i, h_, 0);
    const Index q_row = a_.q.stride[0], v_row = a_.kv.stride[0], o_row = g_.d_out.stride[0];
    multiply({.a = q,
              .a_row = q_row,
              .b = k_ + j * depth_,
              .b_row = 1,
              .b_column = depth_,
              .y = scores_,
              .y_stride = n,
              .m = m,
              .n = n,
              .k = depth_});  // S
    multiply({.a = d_out,
              .a_row = o_row,
              .b = values,
              .b_row = 1,
              .b_column = v_row,
              .y = dp_,
              .y_stride = n,
              .m = m,
              .n = n,
              .k = v});  // dP
    for (Index r = 0; r < m; ++r) {
      const Index t = s_.begin + i + r, visible = std::min(n, i + r + 1 - j);
      largest_ = std::max(largest_, avx2::largest(scores_ + r * n, visible));
      avx2::softmax_backward(scores_ + r * n, dp_ + r * n, n, visible, a_.scale, g_.lse(t, h_), along_[r]);
    }
    multiply({.a = dp_,
              .a_row = n,
              .b = k_ + j * depth_,
              .b_row = depth_,
              .y = &g_.d_q(s_.begin + i, h_, 0),
              .y_stride = g_.d_q.stride[0],
              .m = m,
              .n = depth_,
              .k = n,
              .add = true});  // dQ += dS K
    multiply({.a = dp_,
              .a_row = 1,
              .a_column = n,
              .b = q,
              .b_row = q_row,
              .y = dk_ + j * depth_,
              .y_stride = depth_,
              .m = n,
              .n = depth_,
              .k = m,
              .add = true});  // dK += dS^T Q
    multiply({.a = scores_,
              .a_row = 1,
              .a_column = n,
              .b = d_out,
              .b_row = o_row,
              .y = dv_ + j * v,
              .y_stride = v,
              .m = n,
              .n = v,
              .k = m,
              .add = true});  // dV += P^T dO
  }

  const ProductKernels& kernels_;
  const CausalAttention<float>& a_;
  const AttentionGradient<float>& g_;
  Index sequence_;
  RowRange s_;
  Index h_, n_, depth_;
  float largest_ = -std::numeric_limits<float>::infinity();
  float *scratch_, *k_, *dk_, *dv_, *scores_, *dp_;
  float along_[kSide];  // of a block of queries: dO . O
};

void attend_backward(Context& ctx, const CausalAttention<float>& a, const AttentionGradient<float>& g) {
  const ProductKernels& k = product_kernels(ctx);
  const Workspace::Scope scope(ctx.workspace);
  Index longest = 0;
  for (const RowRange& s : a.sequences) longest = std::max(longest, s.count());
  const ThreadScratch scratch(ctx, HeadBackward::floats(k, a, longest) * static_cast<Index>(sizeof(float)));
  const Index heads = a.heads(), count = static_cast<Index>(a.sequences.size()) * heads;
  ctx.threads.parallel_for(count, 1, [&](Index i, Index) {
    HeadBackward(k, a, g, i / heads, i % heads, static_cast<float*>(scratch.mine())).run();
  });
}

// ---- rows

constexpr Index kElementWork = 4, kExpWork = 16;

template <class Body>
void rows(Context& ctx, Index count, Index work, const Body& body) {
  ctx.threads.parallel_for(count, piece_size(ctx, count, work, 1), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) body(i);
  });
}

void rms_norm_backward(Context& ctx, View<const float, 2> dy, View<const float, 2> x, const float* weight,
                       const float* inverse_rms, View<float, 2> dx) {
  rows(ctx, x.shape[0], x.shape[1] * kElementWork,
       [&](Index t) { avx2::rms_norm_backward(dy.row(t), x.row(t), weight, inverse_rms[t], dx.row(t), x.shape[1]); });
}

void add_rms_norm_weight(Context& ctx, View<const float, 2> dy, View<const float, 2> x, const float* inverse_rms,
                         float* d_weight) {
  constexpr Index kColumns = 16;
  rows(ctx, (x.shape[1] + kColumns - 1) / kColumns, x.shape[0] * kColumns, [&](Index p) {
    const Index begin = p * kColumns;
    avx2::add_rms_norm_weight(dy.data + begin, dy.stride[0], x.data + begin, x.stride[0], inverse_rms, x.shape[0],
                              d_weight + begin, std::min(kColumns, x.shape[1] - begin));
  });
}

void swiglu_backward(Context& ctx, const SwigluGradient<float>& a) {
  rows(ctx, a.gate.shape[0], a.gate.shape[1] * kExpWork, [&](Index t) {
    const float along = avx2::swiglu_backward(a.gate.row(t), a.up.row(t), a.d_inner.row(t), a.weight ? a.weight[t] : 1,
                                              a.d_gate.row(t), a.d_up.row(t), a.weighted_inner.row(t), a.gate.shape[1]);
    if (a.d_weight) a.d_weight[t] = along;
  });
}

void add(Context& ctx, View<const float, 2> x, View<float, 2> y) {
  rows(ctx, y.shape[0], y.shape[1] * kElementWork, [&](Index t) { avx2::add(x.row(t), y.row(t), y.shape[1]); });
}

void sum_heads(Context& ctx, View<const float, 3> x, View<float, 2> y) {
  rows(ctx, x.shape[0], x.shape[1] * x.shape[2], [&](Index t) {
    std::fill_n(y.row(t), x.shape[2], 0.0f);
    for (Index h = 0; h < x.shape[1]; ++h) avx2::add(&x(t, h, 0), y.row(t), x.shape[2]);
  });
}

void combine(Context& ctx, View<const float, 2> x, std::span<const Index> which, View<const float, 2> weights, Index k,
             View<float, 2> y) {
  rows(ctx, y.shape[0], k * y.shape[1], [&](Index t) {
    std::fill_n(y.row(t), y.shape[1], 0.0f);
    for (Index s = 0; s < k; ++s) {
      const float* row = x.row(which[static_cast<std::size_t>(t * k + s)]);
      if (weights.data)
        avx2::axpy(weights(t, s), row, y.row(t), y.shape[1]);
      else
        avx2::add(row, y.row(t), y.shape[1]);
    }
  });
}

void cross_entropy(Context& ctx, View<float, 2> logits, std::span<const std::int32_t> targets, double factor,
                   double* losses) {
  const Index n = logits.shape[1];
  rows(ctx, logits.shape[0], n * kExpWork, [&](Index t) {
    const std::int32_t target = targets[static_cast<std::size_t>(t)];
    if (target < 0)
      std::fill_n(logits.row(t), n, 0.0f), losses[t] = 0;
    else
      losses[t] = avx2::cross_entropy(logits.row(t), n, target, static_cast<float>(factor));
  });
}

// ---- the gate; a softmax over experts is the reference's

void gate_backward(Context& ctx, const GateArgs& a, const GateGradient<float>& g) {
  if (!a.sigmoid) return ref::Training<float>::gate_backward(ctx, a, g);
  const Index n = a.n_routed_experts;
  const Workspace::Scope scope(ctx.workspace);
  const ThreadScratch scratch(ctx, 2 * n * static_cast<Index>(sizeof(float)));
  for (std::size_t q = 0; q < g.sequences.size(); ++q) {
    const RowRange range = g.sequences[q];
    const float* load = g.load.row(static_cast<Index>(q));
    const auto balance = static_cast<float>(g.balance / static_cast<double>(range.count()));
    rows(ctx, range.count(), n * kExpWork, [&](Index i) {
      const Index t = range.begin + i;
      auto* s = static_cast<float*>(scratch.mine());
      float* ds = s + n;
      const float all = avx2::sigmoid(g.logits.row(t), s, n);
      std::fill_n(ds, n, 0.0f);
      const std::int32_t* chosen = g.experts.row(t);
      double sum = 1e-20, along = 0;
      for (Index k = 0; k < a.num_experts_per_tok; ++k) sum += double{s[chosen[k]]};
      const double factor = a.norm_topk_prob ? a.routed_scaling_factor / sum : a.routed_scaling_factor;
      for (Index k = 0; a.norm_topk_prob && k < a.num_experts_per_tok; ++k)
        along += double{g.d_weights(t, k)} * double{s[chosen[k]]} / sum;
      for (Index k = 0; k < a.num_experts_per_tok; ++k)
        ds[chosen[k]] = static_cast<float>(factor * (double{g.d_weights(t, k)} - along));
      avx2::gate_backward(s, ds, load, balance / all, avx2::dot(load, s, n) / all, g.d_logits.row(t), n);
    });
  }
}

double balance(Context& ctx, const GateArgs& a, const BalanceArgs<float>& b) {
  if (!a.sigmoid) return ref::Training<float>::balance(ctx, a, b);
  const Index n = a.n_routed_experts, k = a.num_experts_per_tok;
  const Workspace::Scope scope(ctx.workspace);
  const ThreadScratch scratch(ctx, 3 * n * static_cast<Index>(sizeof(float)));
  std::vector<double> totals(b.sequences.size());
  ctx.threads.parallel_for(static_cast<Index>(b.sequences.size()), 1, [&](Index q, Index) {
    auto* s = static_cast<float*>(scratch.mine());
    float *left = s + n, *mean = left + n;
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(k));
    const RowRange range = b.sequences[static_cast<std::size_t>(q)];
    float* load = b.load.row(q);
    std::fill_n(mean, n, 0.0f);
    std::fill_n(load, n, 0.0f);
    for (Index t = range.begin; t < range.end; ++t) {
      const float all = avx2::sigmoid(b.logits.row(t), s, n);
      avx2::axpy(1 / all, s, mean, n);
      avx2::largest(s, left, n, k, chosen.data());
      for (const std::int32_t e : chosen) load[e] += 1;
    }
    const auto length = static_cast<float>(range.count());
    avx2::scale(static_cast<float>(n) / (static_cast<float>(k) * length), load, n);
    for (Index e = 0; e < n; ++e)
      totals[static_cast<std::size_t>(q)] += double{load[e]} * double{mean[e]} / double{length};
  });
  double total = 0;
  for (const double t : totals) total += t;
  return total;
}

constexpr TrainingKernels<float> table() {
  TrainingKernels<float> t = ref::Training<float>::table();
  t.products = products;
  t.attend_backward = attend_backward;
  t.rms_norm_backward = rms_norm_backward;
  t.add_rms_norm_weight = add_rms_norm_weight;
  t.swiglu_backward = swiglu_backward;
  t.add = add;
  t.sum_heads = sum_heads;
  t.combine = combine;
  t.cross_entropy = cross_entropy;
  t.gate_backward = gate_backward;
  t.balance = balance;
  t.sums_of_squares = sums_of_squares;
  t.adamw = adamw;
  t.momentum = momentum;
  t.blend = blend;
  return t;
}

}  // namespace

const TrainingKernels<float> kTraining = table();

}  // namespace hadal::kernels::cpu
