// DeepSeekMoE (DeepSeek-V3 report, section 2.1.2, equations 12-16): a gate, routed experts, shared experts.
//
//   T tokens, E routed experts, K chosen a token
#pragma once

#include <string>
#include <vector>

#include "hadal/model/layers.h"
#include "hadal/model/part.h"
#include "hadal/model/token_dispatcher.h"
#include "hadal/ops/expert_gradients.h"
#include "hadal/ops/experts.h"

namespace hadal::model {

struct Gate {
  ops::GateRule rule;
  Index n_routed_experts = 0;
  Linear linear;                   // float weights; its product is never rounded
  bool has_bias = false;           // topk_method noaux_tc
  Weight e_score_correction_bias;  // F32 [E]

  Gate() = default;
  explicit Gate(const Config& c);
  TensorRef logits(Context& ctx, const ConstTensorRef& u) const;            // [T, E]
  ops::Selection select(Context& ctx, const ConstTensorRef& logits) const;  // (13-16)
  ops::Selection forward(Context& ctx, const ConstTensorRef& u) const;      // both, observed
  WorkspaceNeed need(const Context& ctx, Index tokens) const;

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
  std::vector<FeedForward> experts;  // those this process holds
  Index first_expert = 0;            // the number of the first of them
  bool has_shared_experts = false;
  FeedForward shared_experts;  // n_shared_experts of them side by side

  Moe() = default;
  Moe(const Config& c, const Part& part);
  // [T, hidden] -> [T, hidden].
  TensorRef forward(Context& ctx, const ConstTensorRef& u, TokenDispatcher& dispatcher, Index layer) const;
  // What forward takes, whatever the tokens choose.
  WorkspaceNeed need(const Context& ctx, Index tokens, const TokenDispatcher& dispatcher, Index layer) const;

  // Training, with all experts here.
  struct Saved {
    TensorRef logits;  // [T, E]
    ops::Selection chosen;
    ops::SavedExperts experts;
    FeedForward::Saved shared;
    TensorRef load;      // [sequences, E]: f of equation 18
    double balance = 0;  // the sum over sequences of f . P
  };
  struct Deltas {
    ops::ExpertGradients experts;
    FeedForward::Deltas shared;
    TensorRef logits;
  };
  TensorRef forward(Context& ctx, const ConstTensorRef& u, const BatchRows& rows, const Keep& keep, Saved& saved) const;
  // `balance`: what Saved::balance is multiplied by in the loss, alpha / number of sequences.
  TensorRef backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, double balance,
                           const Saved& saved, Deltas& d) const;
  void backward_weight(Context& ctx, const ConstTensorRef& u, const Saved& saved, const Deltas& d) const;

  // What the products take; shared() is empty if there are none.
  ops::FeedForwardRef shared() const { return has_shared_experts ? shared_experts.weights() : ops::FeedForwardRef{}; }
  std::vector<ops::FeedForwardRef> weights() const;  // of the experts
  bool ue8m0() const { return gate.linear.ue8m0; }

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    gate.for_each_param(name + ".gate", f);
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const auto routed = [&](const std::string& param, Weight& weight, ParamInfo info) {
        info.routed_expert = true;
        info.shard_axis = ShardAxis::kExperts;
        f(param, weight, info);
      };
      experts[e].for_each_param(name + ".experts." + std::to_string(first_expert + static_cast<Index>(e)), routed);
    }
    if (has_shared_experts) shared_experts.for_each_param(name + ".shared_experts", f);
  }
};

}  // namespace hadal::model
