// The three smallest layers: linear, RMSNorm, SwiGLU feed-forward. Layers are structs with public parameters; forward
// is const and leaves its result in ctx.workspace.
#pragma once

#include <string>

#include "hadal/config/config.h"
#include "hadal/weights/param.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/experts.h"
#include "hadal/ops/linear.h"

namespace hadal::model {

using config::Config;
using config::TokenId;
using weights::ParamInfo;
using weights::ParamRole;
using weights::ParamSpec;
using weights::ShardAxis;
using weights::Weight;

// y = W x without bias; W is [out_features, in_features].
struct Linear {
  Index in_features = 0;
  Index out_features = 0;
  bool ue8m0 = false;  // how Activations::kFp8 rounds scales
  ShardAxis shard_axis = ShardAxis::kNone;
  Weight weight;

  TensorRef forward(Context& ctx, const ConstTensorRef& x) const { return ops::linear(ctx, x, weight, ue8m0); }

  template <class F>
  void for_each_param(const std::string& name, ParamRole role, F&& f) {
    f(name + ".weight", weight,
      ParamInfo{.shape = {out_features, in_features}, .role = role, .shard_axis = shard_axis});
  }
};

struct RmsNorm {
  Index width = 0;
  double eps = 1e-6;
  Weight weight;

  TensorRef forward(Context& ctx, const ConstTensorRef& x) const { return ops::rms_norm(ctx, x, weight.values, eps); }

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    f(name + ".weight", weight, ParamInfo{.shape = {width}, .role = ParamRole::kNorm});
  }
};

// down(silu(gate(x)) * up(x)): dense layers, shared and routed experts alike.
struct FeedForward {
  Linear gate_proj, up_proj, down_proj;

  FeedForward() = default;
  // One of `shards` parts of a network of `width` inner channels: its share of the outputs of each matrix.
  FeedForward(const Config& c, Index width, Index shards = 1);

  TensorRef forward(Context& ctx, const ConstTensorRef& x) const {
    const TensorRef inner = ops::swiglu(ctx, gate_proj.forward(ctx, x), up_proj.forward(ctx, x));
    return ctx.observe("mlp_out", down_proj.forward(ctx, inner));
  }

  WorkspaceNeed need(const Context& ctx, Index tokens) const {
    WorkspaceNeed need = ops::linear_need(ctx, tokens, {&gate_proj.weight});
    need.then(ops::linear_need(ctx, tokens, {&up_proj.weight}));
    need.floats(tokens * gate_proj.out_features);
    need.then(ops::linear_need(ctx, tokens, {&down_proj.weight}));
    return need;
  }

  ops::FeedForwardRef weights() const { return {&gate_proj.weight, &up_proj.weight, &down_proj.weight}; }

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    gate_proj.for_each_param(name + ".gate_proj", ParamRole::kLinear, f);
    up_proj.for_each_param(name + ".up_proj", ParamRole::kLinear, f);
    down_proj.for_each_param(name + ".down_proj", ParamRole::kLinear, f);
  }
};

// A linear of the given sizes with this model's activation rounding.
Linear make_linear(const Config& c, Index in_features, Index out_features, ShardAxis axis = ShardAxis::kNone);

}  // namespace hadal::model
