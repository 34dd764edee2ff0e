// The three smallest layers: linear, RMSNorm, SwiGLU feed-forward. Layers are structs with public parameters; forward
// is const and leaves its result in ctx.workspace. In training every layer has three verbs: a forward that fills a Saved,
// backward_input, from the gradient of its output to that of its input, and backward_weight, which adds to the gradients
// of its parameters; the two halves are apart, so that a schedule can send gradients on before it computes weights'. What
// the first leaves for the second is the layer's Deltas.
#pragma once

#include <string>

#include "hadal/config/config.h"
#include "hadal/weights/param.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/experts.h"
#include "hadal/ops/gradients.h"
#include "hadal/ops/linear.h"
#include "hadal/ops/saving.h"
#include "hadal/model/batch_rows.h"

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
  TensorRef backward_input(Context& ctx, const ConstTensorRef& dy) const {
    return ops::linear_backward_input(ctx, dy, weight);
  }
  void backward_weight(Context& ctx, const ConstTensorRef& dy, const ConstTensorRef& x) const {
    ops::linear_backward_weight(ctx, dy, x, weight);
  }

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

  struct Saved {
    ConstTensorRef x;
    TensorRef inverse_rms;  // [T]
  };
  TensorRef forward(Context& ctx, const ConstTensorRef& x, Saved& saved) const {
    saved = {x, ctx.workspace.tensor(x.dtype(), {x.size(0)})};
    return ops::rms_norm(ctx, x, weight.values, eps, saved.inverse_rms);
  }
  TensorRef backward_input(Context& ctx, const ConstTensorRef& dy, const Saved& saved) const {
    return ops::rms_norm_backward_input(ctx, dy, saved.x, weight, saved.inverse_rms);
  }
  void backward_weight(Context& ctx, const ConstTensorRef& dy, const Saved& saved) const {
    ops::rms_norm_backward_weight(ctx, dy, saved.x, saved.inverse_rms, weight);
  }

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

  struct Saved {
    ConstTensorRef gate, up;
  };
  struct Deltas {
    ConstTensorRef y;
    ops::SwigluGradients inner;
  };
  TensorRef forward(Context& ctx, const ConstTensorRef& x, const Keep& keep, Saved& saved) const;
  TensorRef backward_input(Context& ctx, const ConstTensorRef& dy, const Saved& saved, Deltas& d) const;
  void backward_weight(Context& ctx, const ConstTensorRef& x, const Deltas& d) const;

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
