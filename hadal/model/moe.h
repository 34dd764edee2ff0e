// DeepSeekMoE (DeepSeek-V3 report, section 2.1.2, equations 12-16): a gate, routed experts, shared experts.
//
//   T tokens, E routed experts, K chosen a token
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hadal/model/layers.h"
#include "hadal/model/trace.h"
#include "hadal/ops/experts.h"

namespace hadal::stream {
class ExpertStore;
void begin_pass(ExpertStore& store, std::size_t other_bytes);
}  // namespace hadal::stream

namespace hadal::model {

using stream::ExpertStore;

struct Gate {
  ops::GateRule rule;
  Index n_routed_experts = 0;
  Linear linear;                   // float weights; its product is never rounded
  bool has_bias = false;           // topk_method noaux_tc
  Weight e_score_correction_bias;  // F32 [E]

  Gate() = default;
  explicit Gate(const Config& c);
  ops::Selection forward(Context& ctx, const TensorRef& u, const Trace& trace) const;

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    linear.for_each_param(name, ParamRole::kRouter, f);
    if (has_bias)
      f(name + ".e_score_correction_bias", e_score_correction_bias,
        ParamInfo{.shape = {n_routed_experts}, .role = ParamRole::kRouterBias});
  }
};

struct Moe {
  Gate gate;
  std::vector<FeedForward> experts;
  bool has_shared_experts = false;
  FeedForward shared_experts;  // n_shared_experts of them side by side

  // Of a model larger than memory (streaming.h): `experts` tell places in files, their bytes come from the store.
  ExpertStore* store = nullptr;
  Index store_layer = 0;

  Moe() = default;
  explicit Moe(const Config& c);
  // [T, hidden] -> [T, hidden]. `while_reading` is called when the store has been asked for what is missing.
  TensorRef forward(Context& ctx, const TensorRef& u, const Trace& trace,
                    const std::function<void()>& while_reading = {}) const;
  // Guesses from hidden states `u` of before which experts forward will need, and has the store begin to read them.
  void prefetch(Context& ctx, const TensorRef& u) const;

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    gate.for_each_param(name + ".gate", f);
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const auto routed = [&](const std::string& param, Weight& weight, ParamInfo info) {
        info.routed_expert = true;
        f(param, weight, info);
      };
      experts[e].for_each_param(name + ".experts." + std::to_string(e), routed);
    }
    if (has_shared_experts) shared_experts.for_each_param(name + ".shared_experts", f);
  }

 private:
  TensorRef streamed(Context& ctx, const TensorRef& u, const ops::Selection& chosen,
                     const std::function<void()>& while_reading) const;
  TensorRef resident(Context& ctx, const TensorRef& u, const ops::Selection& chosen) const;
};

}  // namespace hadal::model
