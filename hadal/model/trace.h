// Observation of intermediate results: `hadal logits --trace` and the parity tests. A layer that is given a trace
// offers what it computed under the name used in tests/data/golden; nothing depends on it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "hadal/core/tensor.h"

namespace hadal::model {

class Trace {
 public:
  // `sink` sees each tensor during the call only. Names are "layer3.topk_idx".
  using Sink = std::function<void(const std::string& name, const TensorRef& value)>;

  Trace() = default;
  explicit Trace(Sink sink) : sink_(std::move(sink)) {}

  Trace layer(Index index) const {
    Trace inner(sink_);
    inner.prefix_ = "layer" + std::to_string(index) + ".";
    return inner;
  }
  void operator()(std::string_view name, const TensorRef& value) const {
    if (sink_) sink_(prefix_ + std::string(name), value);
  }

 private:
  Sink sink_;
  std::string prefix_;
};

}  // namespace hadal::model
