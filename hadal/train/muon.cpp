#include "hadal/train/muon.h"

#include <algorithm>
#include <cmath>

#include "hadal/ops/optimizer.h"

namespace hadal::train {
namespace {

using weights::ParamRole;

void scale_rows(const TensorRef& w, Index begin, Index end, double factor) {
  const TensorRef rows = w.rows(begin, end);
  const auto scale = [&]<class Real>(Real* x) {
    for (Index i = 0; i < rows.num_elements(); ++i) x[i] = static_cast<Real>(double{x[i]} * factor);
  };
  if (w.dtype() == DType::kF64)
    scale(rows.data<double>());
  else
    scale(rows.data<float>());
}

}  // namespace

bool Muon::is_for(const weights::ParamInfo& info) {
  return info.role == ParamRole::kLinear || info.role == ParamRole::kProjection || info.role == ParamRole::kRouter;
}

Muon::Muon(const Parameters& parameters, const MuonOptions& options, const AdamWOptions& rest, DType moments)
    : options_(options), rest_(parameters, rest, moments, [](const Parameter& p) { return !is_for(p.info); }) {
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    const Parameter& p = parameters.all()[i];
    if (is_for(p.info)) momenta_.push_back({i, p.name, Tensor::zeros(moments, p.info.shape)});
  }
}

void Muon::step(Context& ctx, Parameters& parameters, double learning_rate, double gradient_factor) {
  rest_.step(ctx, parameters, learning_rate, gradient_factor);
  std::span<const Momentum> left(momenta_);
  while (!left.empty()) {
    std::size_t count = 0;
    std::uint64_t bytes = 0;
    for (; count < left.size(); ++count) {
      const ConstTensorRef& grad = parameters.all()[left[count].parameter].grad.ref();
      bytes += static_cast<std::uint64_t>(grad.num_bytes()) + ops::orthogonalize_bytes(grad);
      if (count > 0 && bytes > kUpdateBytes) break;
    }
    step_some(ctx, left.first(count), parameters, learning_rate, gradient_factor);
    left = left.subspan(count);
  }
}

void Muon::step_some(Context& ctx, std::span<const Momentum> some, Parameters& parameters, double learning_rate,
                     double gradient_factor) {
  const Workspace::Scope scope(ctx.workspace);
  std::vector<ops::MomentumTensors> momenta;
  std::vector<TensorRef> updates;
  std::vector<ops::Blend> blends;
  for (const Momentum& m : some) {
    const Parameter& p = parameters.all()[m.parameter];
    updates.push_back(ctx.workspace.tensor(p.grad.dtype(), p.grad.shape()));
    momenta.push_back({p.grad.ref(), m.value, updates.back()});
    const double size = 0.2 * std::sqrt(static_cast<double>(std::max(p.value.size(0), p.value.size(1))));
    blends.push_back({updates.back(), -learning_rate * size, p.value, 1 - learning_rate * options_.weight_decay});
  }
  ops::momentum(ctx, {options_.momentum, gradient_factor, options_.nesterov}, momenta);
  ops::orthogonalize(ctx, {.steps = options_.newton_schulz_steps}, updates);
  ops::blend(ctx, blends);
}

void Muon::for_each_state(const Visitor& f) const {
  for (const Momentum& m : momenta_) f("momentum." + m.name, m.value);
  rest_.for_each_state(f);
}

Index clip_queries_and_keys(Parameters& parameters, const config::Config& c,
                            const std::vector<std::vector<double>>& largest_scores, double most) {
  const Index nope = c.qk_nope_head_dim, rope = c.qk_rope_head_dim, v = c.v_head_dim;
  Index clipped = 0;
  for (std::size_t layer = 0; layer < largest_scores.size(); ++layer)
    for (std::size_t h = 0; h < largest_scores[layer].size(); ++h) {
      if (!(largest_scores[layer][h] > most)) continue;
      const double gamma = most / largest_scores[layer][h], root = std::sqrt(gamma);
      const std::string attention = "model.layers." + std::to_string(layer) + ".self_attn.";
      const TensorRef& q =
          parameters.find(attention + (c.q_lora_rank.has_value() ? "q_b_proj" : "q_proj") + ".weight").value;
      const TensorRef& kv = parameters.find(attention + "kv_b_proj.weight").value;
      const Index of_q = static_cast<Index>(h) * (nope + rope), of_kv = static_cast<Index>(h) * (nope + v);
      scale_rows(q, of_q, of_q + nope, root);
      scale_rows(q, of_q + nope, of_q + nope + rope, gamma);
      scale_rows(kv, of_kv, of_kv + nope, root);
      ++clipped;
    }
  return clipped;
}

}  // namespace hadal::train
