// Who watches a forward pass. Layers name what they computed and say when the next one begins; what is done with that -
// Ctrl-C, phase times, traces, calibration - is the observers' business, and nothing that is computed depends on it.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal {

class Observer {
 public:
  virtual ~Observer() = default;
  // Layer `index` is about to run (MTP depth d counts as num_hidden_layers + d); -1: a piece of other long work. May
  // throw, which ends the pass: caches are as long as before then.
  virtual void on_boundary(Index /*index*/) {}
  // `value` has just been computed, on the device that computes; it is there during the call only.
  virtual void on_value(std::string_view /*name*/, const ConstTensorRef& /*value*/) {}
};

// The observers of a Context, asked in the order in which they came.
class Observers {
 public:
  // Adds an observer until the end of the block. Must not outlive either.
  class Watch {
   public:
    Watch(Observers& all, Observer& one) : all_(all), one_(&one) { all_.list_.push_back(one_); }
    ~Watch() { std::erase(all_.list_, one_); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Observers& all_;
    Observer* one_;
  };

  // An observer for as long as the Context lives.
  void keep(std::unique_ptr<Observer> one) {
    list_.push_back(one.get());
    kept_.push_back(std::move(one));
  }

  void boundary(Index index) const {
    for (Observer* o : list_) o->on_boundary(index);
  }
  void value(std::string_view name, const ConstTensorRef& value) const {
    for (Observer* o : list_) o->on_value(name, value);
  }

 private:
  std::vector<Observer*> list_;
  std::vector<std::unique_ptr<Observer>> kept_;
};

// Asked at every boundary; ends the work by throwing, e.g. Interrupted after Ctrl-C.
class Poll : public Observer {
 public:
  explicit Poll(std::function<void()> ask) : ask_(std::move(ask)) {}
  void on_boundary(Index) override { ask_(); }

 private:
  std::function<void()> ask_;
};

// Hands every value on under its full name: "layer3.topk_idx".
class Trace : public Observer {
 public:
  using Sink = std::function<void(const std::string& name, const ConstTensorRef& value)>;
  explicit Trace(Sink sink) : sink_(std::move(sink)) {}
  void on_boundary(Index index) override { layer_ = index; }
  void on_value(std::string_view name, const ConstTensorRef& value) override {
    sink_("layer" + std::to_string(layer_) + "." + std::string(name), value);
  }

 private:
  Sink sink_;
  Index layer_ = -1;
};

}  // namespace hadal
