#include "hadal/ops/gradients.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "hadal/ops/elementwise.h"
#include "hadal/ops/gate_args.h"
#include "hadal/ops/linear.h"
#include "hadal/ops/products.h"
#include "hadal/ops/real.h"
#include "hadal/ops/saving.h"

namespace hadal::ops {
namespace {

constexpr Index kLogitBytes = Index{8} << 20;  // at a time

void check_weight(const char* op, const Weight& w, const ConstTensorRef& dy, const ConstTensorRef& x) {
  HADAL_CHECK(
      w.values && (w.master ? w.master : w.values).dtype() == dy.dtype() && w.rank() == 2 && dy.rank() == 2 &&
          dy.size(1) == w.num_rows() &&
          (!x || (x.rank() == 2 && x.size(0) == dy.size(0) && x.size(1) == w.num_columns() && x.dtype() == dy.dtype())),
      "{}: the weight is {} {}, dy {} {}, x {}", op, dtype_name(w.dtype()), w.shape().to_string(),
      dtype_name(dy.dtype()), dy.shape().to_string(), x.shape().to_string());
}

template <class Real>
kernels::Product<Real> dgrad(const Context& ctx, const ConstTensorRef& dy, const Weight& w, const TensorRef& dx,
                             bool to_bf16) {
  return {.a = dy.data_on<Real>(ctx.device),
          .a_row = dy.stride(0),
          .b = factor<Real>(ctx, w),
          .b_row = w.values.stride(0),
          .y = dx.data_on<Real>(ctx.device),
          .y_stride = dx.stride(0),
          .m = dy.size(0),
          .n = w.num_columns(),
          .k = w.num_rows(),
          .to_bf16 = to_bf16};
}

template <class Real>
kernels::Product<Real> wgrad(const Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const Weight& w,
                             bool to_bf16) {
  check_weight("wgrad", w, dy, x);
  HADAL_CHECK(w.grad && w.grad.shape() == w.shape(), "wgrad: the weight {} has no room for gradients",
              w.shape().to_string());
  return {.a = dy.data_on<Real>(ctx.device),
          .a_row = 1,
          .a_column = dy.stride(0),
          .b = x.data_on<Real>(ctx.device),
          .b_row = x.stride(0),
          .y = w.grad.data_on<Real>(ctx.device),
          .y_stride = w.grad.stride(0),
          .m = w.num_rows(),
          .n = w.num_columns(),
          .k = dy.size(0),
          .add = true,
          .to_bf16 = to_bf16};
}

template <class Real>
kernels::CausalAttention<Real> causal_attention(const Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv,
                                                const ConstTensorRef& k_pe, std::span<const RowRange> sequences,
                                                double scale) {
  return {q.view_on<Real, 3>(ctx.device), kv.view_on<Real, 3>(ctx.device), k_pe.view_on<Real, 2>(ctx.device),
          static_cast<Real>(scale), sequences};
}

void check_sequences(const char* op, std::span<const RowRange> sequences, Index rows) {
  for (const RowRange& s : sequences)
    HADAL_CHECK(0 <= s.begin && s.begin < s.end && s.end <= rows, "{}: sequence [{}, {}) of {} rows", op, s.begin,
                s.end, rows);
}

}  // namespace

TensorRef linear_backward_input(Context& ctx, const ConstTensorRef& dy, const Weight& w) {
  return linear_all_backward_input(ctx, {dy}, {&w});
}

TensorRef linear_all_backward_input(Context& ctx, std::initializer_list<ConstTensorRef> dy,
                                    std::initializer_list<const Weight*> weights) {
  HADAL_CHECK(dy.size() == weights.size() && dy.size() > 0, "dgrad: {} gradients, {} weights", dy.size(),
              weights.size());
  const ConstTensorRef& first = *dy.begin();
  const TensorRef dx = ctx.workspace.tensor(first.dtype(), {first.size(0), (*weights.begin())->num_columns()});
  with_real(ctx, "dgrad", first.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::Product<Real>> products;
    const Weight* const* w = weights.begin();
    for (const ConstTensorRef& part : dy) {
      check_weight("dgrad", **w, part, {});
      products.push_back(dgrad<Real>(ctx, part, **w, dx, in_bf16(ctx)));
      products.back().add = products.size() > 1;
      ++w;
    }
    HADAL_CHECK(products.size() <= 2, "dgrad: of {} products of one input; two at most", products.size());
    multiply_all(ctx, kernels, products);
  });
  return dx;
}

void linear_backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const Weight& w) {
  linear_all_backward_weight(ctx, {dy}, x, {&w});
}

void linear_all_backward_weight(Context& ctx, std::initializer_list<ConstTensorRef> dy, const ConstTensorRef& x,
                                std::initializer_list<const Weight*> weights) {
  HADAL_CHECK(dy.size() == weights.size(), "wgrad: {} gradients, {} weights", dy.size(), weights.size());
  with_real(ctx, "wgrad", x.dtype(), [&]<class Real>(Real, const auto& kernels) {
    std::vector<kernels::Product<Real>> products;
    const Weight* const* w = weights.begin();
    for (const ConstTensorRef& part : dy) {
      products.push_back(wgrad<Real>(ctx, part, x, **w, in_bf16(ctx)));
      ++w;
    }
    multiply_all(ctx, kernels, products);
  });
}

TensorRef linear_unrounded_backward_input(Context& ctx, const ConstTensorRef& dy, const Weight& w) {
  check_weight("dgrad", w, dy, {});
  const TensorRef dx = ctx.workspace.tensor(dy.dtype(), {dy.size(0), w.num_columns()});
  with_real(ctx, "dgrad", dy.dtype(), [&]<class Real>(Real, const auto& kernels) {
    const auto product = dgrad<Real>(ctx, dy, w, dx, false);
    kernels.products(ctx, std::span(&product, 1));
  });
  return dx;
}

void linear_unrounded_backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x,
                                      const Weight& w) {
  with_real(ctx, "wgrad", x.dtype(), [&]<class Real>(Real, const auto& kernels) {
    const auto product = wgrad<Real>(ctx, dy, x, w, false);
    kernels.products(ctx, std::span(&product, 1));
  });
}

TensorRef rms_norm_backward_input(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x, const Weight& w,
                                  const ConstTensorRef& inverse_rms) {
  HADAL_CHECK(dy.rank() == 2 && dy.shape() == x.shape() && inverse_rms.shape() == Shape({x.size(0)}),
              "rms_norm_backward: dy {}, x {}, inverse_rms {}", dy.shape().to_string(), x.shape().to_string(),
              inverse_rms.shape().to_string());
  const TensorRef dx = ctx.workspace.tensor(x.dtype(), x.shape());
  with_real(ctx, "rms_norm_backward", x.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.rms_norm_backward(ctx, dy.view_on<Real, 2>(ctx.device), x.view_on<Real, 2>(ctx.device),
                              w.values.data_on<Real>(ctx.device), inverse_rms.data_on<Real>(ctx.device),
                              dx.view_on<Real, 2>(ctx.device));
  });
  return dx;
}

void rms_norm_backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x,
                              const ConstTensorRef& inverse_rms, const Weight& w) {
  HADAL_CHECK(dy.rank() == 2 && dy.shape() == x.shape() && w.grad && w.grad.shape() == Shape({x.size(1)}),
              "rms_norm_backward: dy {}, x {}, gradient {}", dy.shape().to_string(), x.shape().to_string(),
              w.grad.shape().to_string());
  with_real(ctx, "rms_norm_backward", x.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.add_rms_norm_weight(ctx, dy.view_on<Real, 2>(ctx.device), x.view_on<Real, 2>(ctx.device),
                                inverse_rms.data_on<Real>(ctx.device), w.grad.data_on<Real>(ctx.device));
  });
}

SwigluGradients swiglu_backward(Context& ctx, const ConstTensorRef& gate, const ConstTensorRef& up,
                                const ConstTensorRef& d_inner, const ConstTensorRef& weights) {
  HADAL_CHECK(gate.rank() == 2 && up.shape() == gate.shape() && d_inner.shape() == gate.shape() &&
                  (!weights || weights.shape() == Shape({gate.size(0)})),
              "swiglu_backward: gate {}, up {}, d_inner {}, weights {}", gate.shape().to_string(),
              up.shape().to_string(), d_inner.shape().to_string(), weights.shape().to_string());
  SwigluGradients out;
  const Index width = gate.size(1);
  const TensorRef both = ctx.workspace.tensor(gate.dtype(), {gate.size(0), 2 * width});
  out.gate = both.columns(0, width);
  out.up = both.columns(width, 2 * width);
  out.inner = ctx.workspace.tensor(gate.dtype(), gate.shape());
  if (weights) out.weights = ctx.workspace.tensor(gate.dtype(), weights.shape());
  with_real(ctx, "swiglu_backward", gate.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.swiglu_backward(ctx, {.gate = gate.view_on<Real, 2>(ctx.device),
                                  .up = up.view_on<Real, 2>(ctx.device),
                                  .d_inner = d_inner.view_on<Real, 2>(ctx.device),
                                  .weight = weights ? weights.data_on<Real>(ctx.device) : nullptr,
                                  .d_gate = out.gate.view_on<Real, 2>(ctx.device),
                                  .d_up = out.up.view_on<Real, 2>(ctx.device),
                                  .weighted_inner = out.inner.view_on<Real, 2>(ctx.device),
                                  .d_weight = weights ? out.weights.data_on<Real>(ctx.device) : nullptr});
  });
  return out;
}

TensorRef rope_backward(Context& ctx, const ConstTensorRef& dy, const RopeTable& table) {
  if (dy.rank() == 2) return rope_backward(ctx, dy.split_last(1, dy.size(1)), table).reshape(dy.shape());
  HADAL_CHECK(dy.rank() == 3 && dy.size(2) == 2 * table.cos.size(1) && dy.size(0) == table.cos.size(0),
              "rope_backward: dy {}, the table {}", dy.shape().to_string(), table.cos.shape().to_string());
  const TensorRef dx = ctx.workspace.tensor(dy.dtype(), dy.shape());
  with_real(ctx, "rope_backward", dy.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.rope(ctx, dy.view_on<Real, 3>(ctx.device), table.cos.view_on<double, 2>(ctx.device),
                 table.sin.view_on<double, 2>(ctx.device), true, dx.view_on<Real, 3>(ctx.device));
  });
  return dx;
}

Attended attend_sequences(Context& ctx, const ConstTensorRef& q, const ConstTensorRef& kv, const ConstTensorRef& k_pe,
                          std::span<const RowRange> sequences, double scale) {
  HADAL_CHECK(q.rank() == 3 && kv.rank() == 3 && k_pe.rank() == 2 && kv.size(0) == q.size(0) &&
                  k_pe.size(0) == q.size(0) && kv.size(1) == q.size(1) && q.size(2) > k_pe.size(1),
              "attend_sequences: q {}, kv {}, k_pe {}", q.shape().to_string(), kv.shape().to_string(),
              k_pe.shape().to_string());
  check_sequences("attend_sequences", sequences, q.size(0));
  const Index v = kv.size(2) - (q.size(2) - k_pe.size(1));
  const Attended y{ctx.workspace.tensor(q.dtype(), {q.size(0), q.size(1), v}),
                   ctx.workspace.tensor(q.dtype(), {q.size(0), q.size(1)})};
  if (is_double(q)) {
    kernels::training_kernels<double>(ctx).attend(ctx, causal_attention<double>(ctx, q, kv, k_pe, sequences, scale),
                                                  y.out.view_on<double, 3>(ctx.device),
                                                  y.lse.view_on<double, 2>(ctx.device));
    return y;
  }
  for (const RowRange& s : sequences)
    attend_expanded(ctx, q.rows(s.begin, s.end), kv.rows(s.begin, s.end), k_pe.rows(s.begin, s.end), 0, scale,
                    y.out.rows(s.begin, s.end), y.lse.rows(s.begin, s.end));
  return y;
}

AttentionGradients attend_backward(Context& ctx, const ConstTensorRef& d_out, const ConstTensorRef& q,
                                   const ConstTensorRef& kv, const ConstTensorRef& k_pe, const ConstTensorRef& out,
                                   const ConstTensorRef& lse, std::span<const RowRange> sequences, double scale) {
  HADAL_CHECK(d_out.rank() == 3 && d_out.shape() == out.shape() && q.rank() == 3 &&
                  lse.shape() == Shape({q.size(0), q.size(1)}),
              "attend_backward: d_out {}, out {}, q {}, lse {}", d_out.shape().to_string(), out.shape().to_string(),
              q.shape().to_string(), lse.shape().to_string());
  check_sequences("attend_backward", sequences, q.size(0));
  const DType dtype = q.dtype();
  const AttentionGradients g{ctx.workspace.tensor(dtype, q.shape()), ctx.workspace.tensor(dtype, kv.shape()),
                             ctx.workspace.tensor(dtype, k_pe.shape()),
                             ctx.workspace.tensor(dtype, {static_cast<Index>(sequences.size()), q.size(1)})};
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef of_heads = ctx.workspace.tensor(dtype, {q.size(0), q.size(1), k_pe.size(1)});
  with_real(ctx, "attend_backward", dtype, [&]<class Real>(Real, const auto& kernels) {
    kernels.attend_backward(ctx, causal_attention<Real>(ctx, q, kv, k_pe, sequences, scale),
                            {.out = out.view_on<Real, 3>(ctx.device),
                             .d_out = d_out.view_on<Real, 3>(ctx.device),
                             .lse = lse.view_on<Real, 2>(ctx.device),
                             .d_q = g.q.view_on<Real, 3>(ctx.device),
                             .d_kv = g.kv.view_on<Real, 3>(ctx.device),
                             .d_k_pe = of_heads.view_on<Real, 3>(ctx.device),
                             .largest = g.largest.view_on<Real, 2>(ctx.device)});
    kernels.sum_heads(ctx, of_heads.view_on<Real, 3>(ctx.device), g.k_pe.view_on<Real, 2>(ctx.device));
  });
  return g;
}

double balance_loss(Context& ctx, const ConstTensorRef& logits, const GateRule& rule,
                    std::span<const RowRange> sequences, const TensorRef& load) {
  check_sequences("balance_loss", sequences, logits.size(0));
  const kernels::GateArgs args = gate_args(ctx, logits, {}, rule);
  return with_real(ctx, "balance_loss", logits.dtype(), [&]<class Real>(Real, const auto& kernels) {
    return kernels.balance(ctx, args,
                           {logits.view_on<Real, 2>(ctx.device), sequences, load.view_on<Real, 2>(ctx.device)});
  });
}

TensorRef gate_backward(Context& ctx, const ConstTensorRef& d_weights, const ConstTensorRef& logits,
                        const Selection& chosen, const GateRule& rule, std::span<const RowRange> sequences,
                        const ConstTensorRef& load, double balance) {
  check_sequences("gate_backward", sequences, logits.size(0));
  HADAL_CHECK(d_weights.shape() == chosen.weights.shape() && d_weights.size(0) == logits.size(0) &&
                  load.shape() == Shape({static_cast<Index>(sequences.size()), logits.size(1)}),
              "gate_backward: d_weights {}, logits {}, load {}", d_weights.shape().to_string(),
              logits.shape().to_string(), load.shape().to_string());
  const kernels::GateArgs args = gate_args(ctx, logits, {}, rule);
  const TensorRef d_logits = ctx.workspace.tensor(logits.dtype(), logits.shape());
  with_real(ctx, "gate_backward", logits.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.gate_backward(ctx, args,
                          {.logits = logits.view_on<Real, 2>(ctx.device),
                           .experts = chosen.experts.view_on<std::int32_t, 2>(ctx.device),
                           .d_weights = d_weights.view_on<Real, 2>(ctx.device),
                           .load = load.view_on<Real, 2>(ctx.device),
                           .sequences = sequences,
                           .balance = balance,
                           .d_logits = d_logits.view_on<Real, 2>(ctx.device)});
  });
  return d_logits;
}

void embedding_backward(Context& ctx, const ConstTensorRef& dy, std::span<const std::int32_t> ids,
                        const Weight& table) {
  HADAL_CHECK(
      dy.rank() == 2 && dy.size(0) == static_cast<Index>(ids.size()) && table.grad && table.grad.size(1) == dy.size(1),
      "embedding_backward: dy {}, {} ids, gradient {}", dy.shape().to_string(), ids.size(),
      table.grad.shape().to_string());
  with_real(ctx, "embedding_backward", dy.dtype(), [&]<class Real>(Real, const auto& kernels) {
    kernels.add_embedding(ctx, dy.view_on<Real, 2>(ctx.device), ids, table.grad.view_on<Real, 2>(ctx.device));
  });
}

double cross_entropy(Context& ctx, const ConstTensorRef& hidden, const Weight& w, std::span<const std::int32_t> targets,
                     double scale, const TensorRef& d_hidden) {
  HADAL_CHECK(
      hidden.rank() == 2 && static_cast<Index>(targets.size()) == hidden.size(0) && d_hidden.shape() == hidden.shape(),
      "cross_entropy: hidden {}, {} targets, d_hidden {}", hidden.shape().to_string(), targets.size(),
      d_hidden.shape().to_string());
  for (const std::int32_t t : targets)
    HADAL_CHECK(t < w.num_rows(), "cross_entropy: target {} is not below vocab_size {}", t, w.num_rows());
  const Index bytes = w.num_rows() * static_cast<Index>(dtype_bytes(hidden.dtype()));
  const Index rows = std::clamp<Index>(kLogitBytes / bytes, 32, std::max<Index>(32, hidden.size(0)));
  double total = 0;
  for (Index begin = 0; begin < hidden.size(0); begin += rows) {
    const Workspace::Scope scope(ctx.workspace);
    const Index end = std::min(begin + rows, hidden.size(0));
    const TensorRef logits = linear(ctx, hidden.rows(begin, end), w);
    std::vector<double> losses(static_cast<std::size_t>(end - begin));
    with_real(ctx, "cross_entropy", hidden.dtype(), [&]<class Real>(Real, const auto& kernels) {
      kernels.cross_entropy(ctx, logits.view_on<Real, 2>(ctx.device),
                            targets.subspan(static_cast<std::size_t>(begin), losses.size()), scale, losses.data());
      const auto product = dgrad<Real>(ctx, logits, w, d_hidden.rows(begin, end), in_bf16(ctx));
      kernels.products(ctx, std::span(&product, 1));
    });
    linear_backward_weight(ctx, logits, hidden.rows(begin, end), w);
    for (const double loss : losses) total += loss;
  }
  return total;
}

}  // namespace hadal::ops
