#include "hadal/train/optimizer.h"

#include <cmath>

#include "hadal/ops/optimizer.h"
#include "hadal/train/muon.h"

namespace hadal::train {

std::uint64_t Optimizer::bytes() const {
  std::uint64_t total = 0;
  for_each_state([&](const std::string&, const TensorRef& t) { total += static_cast<std::uint64_t>(t.num_bytes()); });
  return total;
}

std::unique_ptr<Optimizer> make_optimizer(const Parameters& parameters, const OptimizerOptions& o) {
  if (o.kind == OptimizerKind::kMuon) return std::make_unique<Muon>(parameters, o.muon, o.adamw, o.moments);
  return std::make_unique<AdamW>(parameters, o.adamw, o.moments);
}

double gradient_norm(Context& ctx, const Parameters& parameters) {
  std::vector<ConstTensorRef> gradients;
  for (const Parameter& p : parameters.all())
    if (p.grad) gradients.push_back(p.grad.ref());
  double total = 0;
  for (const double sum : ops::sums_of_squares(ctx, gradients)) total += sum;
  return std::sqrt(total);
}

double clip_factor(double norm, double most) {
  return norm > most ? most / norm : 1;
}

AdamW::AdamW(const Parameters& parameters, const AdamWOptions& options, DType moments,
             const std::function<bool(const Parameter&)>& chosen)
    : options_(options) {
  HADAL_CHECK(moments == DType::kF32 || moments == DType::kBF16 || moments == DType::kF64,
              "adamw: moments are F32, BF16 or F64, not {}", dtype_name(moments));
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    const Parameter& p = parameters.all()[i];
    if (!p.grad || (chosen && !chosen(p))) continue;
    moments_.push_back({i, p.name, Tensor::zeros(moments, p.info.shape), Tensor::zeros(moments, p.info.shape)});
  }
}

void AdamW::step(Context& ctx, Parameters& parameters, double learning_rate, double gradient_factor) {
  ++steps_;
  const auto t = static_cast<double>(steps_);
  std::vector<ops::AdamWTensors> tensors;
  for (const Moments& m : moments_) {
    const Parameter& p = parameters.all()[m.parameter];
    const bool decays = weights::decay_group(p.info.role) == weights::DecayGroup::kDecay;
    tensors.push_back(
        {p.grad.ref(), m.first, m.second, p.value, decays ? 1 - learning_rate * options_.weight_decay : 1});
  }
  ops::adamw(ctx,
             {.beta1 = options_.beta1,
              .beta2 = options_.beta2,
              .eps = options_.eps,
              .correction = learning_rate / (1 - std::pow(options_.beta1, t)),
              .root = 1 / std::sqrt(1 - std::pow(options_.beta2, t)),
              .gradient = gradient_factor},
             tensors);
}

void AdamW::for_each_state(const Visitor& f) const {
  for (const Moments& m : moments_) {
    f("first." + m.name, m.first);
    f("second." + m.name, m.second);
  }
}

namespace {

template <class Real>
void move_bias(Parameter& p, const std::vector<Index>& load, double gamma) {
  Index total = 0;
  for (const Index n : load) total += n;
  const double mean = static_cast<double>(total) / static_cast<double>(load.size());
  Real* bias = p.value->data<Real>();
  for (std::size_t e = 0; e < load.size(); ++e) {
    const double error = mean - static_cast<double>(load[e]);
    bias[e] = static_cast<Real>(double{bias[e]} + gamma * static_cast<double>((error > 0) - (error < 0)));
  }
}

}  // namespace

void step_routing_bias(Parameters& parameters, const std::vector<std::vector<Index>>& counts, double gamma) {
  std::size_t layer = 0;
  for (Parameter& p : parameters.all()) {
    if (p.info.role != weights::ParamRole::kRouterBias) continue;
    HADAL_CHECK(layer < counts.size() && static_cast<Index>(counts[layer].size()) == p.value.size(0),
                "training: the load of {} is not known", p.name);
    (p.value.dtype() == DType::kF64 ? move_bias<double> : move_bias<float>)(p, counts[layer++], gamma);
  }
}

}  // namespace hadal::train
