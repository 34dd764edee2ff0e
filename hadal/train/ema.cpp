#include "hadal/train/ema.h"

#include <algorithm>

#include "hadal/ops/optimizer.h"

namespace hadal::train {

Ema::Ema(const Parameters& parameters, double decay) : decay_(decay), updates_(Tensor::zeros(DType::kI64, {1})) {
  HADAL_CHECK(decay >= 0 && decay < 1, "ema: the decay is {}; a number from 0 to below 1 was expected", decay);
  for (const Parameter& p : parameters.all())
    averages_.push_back({p.name, Tensor::zeros(p.value.dtype(), p.info.shape)});
}

Index Ema::updates() const {
  return *updates_->data<std::int64_t>();
}

void Ema::update(Context& ctx, const Parameters& parameters) {
  HADAL_CHECK(!swapped_, "ema: update while its averages are the parameters' values");
  const Index count = ++*updates_->data<std::int64_t>();
  const double weight = std::max(1 - decay_, 1 / static_cast<double>(count));
  std::vector<ops::Blend> blends;
  for (std::size_t i = 0; i < averages_.size(); ++i)
    blends.push_back({parameters.all()[i].value.ref(), weight, averages_[i].value, 1 - weight});
  ops::blend(ctx, blends);
}

void Ema::swap(Context& ctx, Parameters& parameters) {
  if (updates() == 0) return;
  swapped_ = !swapped_;
  ctx.threads.parallel_for(static_cast<Index>(averages_.size()), 1, [&](Index i, Index) {
    const auto at = static_cast<std::size_t>(i);
    Parameter& p = parameters.all()[at];
    auto* average = static_cast<std::byte*>(averages_[at].value->raw());
    std::swap_ranges(average, average + p.value->num_bytes(), static_cast<std::byte*>(p.value->raw()));
  });
  parameters.publish(ctx);
}

void Ema::for_each_state(const Optimizer::Visitor& f) const {
  HADAL_CHECK(!swapped_, "ema: its averages are the parameters' values");
  for (const Average& a : averages_) f("ema." + a.name, a.value);
  f("ema_updates", updates_);
}

std::uint64_t Ema::bytes() const {
  std::uint64_t total = 0;
  for (const Average& a : averages_) total += static_cast<std::uint64_t>(a.value->num_bytes());
  return total;
}

}  // namespace hadal::train
