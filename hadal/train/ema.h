// An exponential moving average of the parameters, kept apart from them (report, section 3.2.2): what the model would
// be like after the learning rate has fallen.
#pragma once

#include "hadal/train/optimizer.h"

namespace hadal::train {

class Ema {
 public:
  // average += w (value - average) with w = 1 - decay, or 1 / (updates so far, this one among them) as long as that is
  // more: the plain mean of the first steps, so that the initial values, which are random, weigh no more than others.
  // Of all values, the routing bias among them.
  Ema(const Parameters& parameters, double decay);
  void update(Context& ctx, const Parameters& parameters);
  Index updates() const;

  // Averages become the parameters' values and those are kept here, and back: for validation and export. Between the
  // two neither update() nor for_each_state() may be called. Before the first update nothing is exchanged.
  void swap(Context& ctx, Parameters& parameters);

  // "ema.<parameter>", of the values' dtype, and "ema_updates" I64 [1].
  void for_each_state(const Optimizer::Visitor& f) const;
  std::uint64_t bytes() const;

 private:
  struct Average {
    std::string name;
    Tensor value;
  };
  double decay_;
  bool swapped_ = false;
  std::vector<Average> averages_;  // of parameters.all()
  Tensor updates_;
};

}  // namespace hadal::train
