// Multi-head latent attention (DeepSeek-V3 report, section 2.1.1, equations 1-11).
//
//   T tokens, of one or more sequences; H heads; L positions in a sequence's cache
//   nope = qk_nope_head_dim, rope = qk_rope_head_dim, v = v_head_dim, c = kv_lora_rank
#pragma once

#include <string>

#include "hadal/model/layers.h"
#include "hadal/model/pass.h"

namespace hadal::model {

struct Mla {
  Index num_heads = 0, nope = 0, rope = 0, v = 0, kv_lora_rank = 0;
  double softmax_scale = 1;

  Linear q_proj;              // without q compression
  Linear q_a_proj, q_b_proj;  // with
  RmsNorm q_a_layernorm;
  bool has_q_lora = false;
  Linear kv_a_proj_with_mqa, kv_b_proj, o_proj;
  RmsNorm kv_a_layernorm;

  Mla() = default;
  // One of `shards` parts: its share of the heads, and of the outputs of o_proj, which is given all heads.
  explicit Mla(const Config& c, Index shards = 1);

  // h [T, hidden] -> [T, hidden]. Writes the tokens' entries of `layer` behind the lengths of their caches, which stay
  // as they are. What a sequence gets does not depend on the others.
  TensorRef forward(Context& ctx, const ConstTensorRef& h, const Pass& pass, Index layer) const;

  // Training, without a cache: keys and values of a batch are made once, in the expanded form.
  struct UpProjected {
    RmsNorm::Saved q_a_norm, kv_a_norm;
    ConstTensorRef c_q;   // [T, q_lora_rank], with q compression
    ConstTensorRef q;     // [T, H, nope + rope], rotated
    ConstTensorRef c_kv;  // [T, c]
    ConstTensorRef kv;    // [T, H, nope + v]
  };
  struct Saved {
    ConstTensorRef q_a;  // without q compression: the query before it is rotated
    ConstTensorRef kv_a;
    UpProjected up;  // nothing with Keep::recompute
    ConstTensorRef k_pe, out, lse;
  };
  struct Deltas {
    ConstTensorRef out, q, c_q, q_a, kv, c_kv, kv_a;
    UpProjected up;
    ConstTensorRef largest;  // [sequences, H]: the largest score of each
  };
  TensorRef forward(Context& ctx, const ConstTensorRef& h, const BatchRows& rows, const Keep& keep, Saved& saved) const;
  TensorRef backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, const Saved& saved,
                           Deltas& d) const;
  void backward_weight(Context& ctx, const ConstTensorRef& h, const Saved& saved, const Deltas& d) const;

  // What forward takes of ctx.workspace at most.
  WorkspaceNeed need(const Context& ctx, const Pass& pass, Index layer) const;

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    if (has_q_lora) {
      q_a_proj.for_each_param(name + ".q_a_proj", ParamRole::kLinear, f);
      q_a_layernorm.for_each_param(name + ".q_a_layernorm", f);
      q_b_proj.for_each_param(name + ".q_b_proj", ParamRole::kLinear, f);
    } else {
      q_proj.for_each_param(name + ".q_proj", ParamRole::kLinear, f);
    }
    kv_a_proj_with_mqa.for_each_param(name + ".kv_a_proj_with_mqa", ParamRole::kLinear, f);
    kv_a_layernorm.for_each_param(name + ".kv_a_layernorm", f);
    kv_b_proj.for_each_param(name + ".kv_b_proj", ParamRole::kLinear, f);
    o_proj.for_each_param(name + ".o_proj", ParamRole::kLinear, f);
  }

 private:
  WorkspaceNeed attention_need(const Context& ctx, const Pass& pass, Index layer) const;
  struct Projected {
    TensorRef q;     // [T, H, nope + rope]
    TensorRef kv_a;  // [T, c + rope]
  };
  Projected project(Context& ctx, const ConstTensorRef& h) const;
  UpProjected up_project(Context& ctx, const Saved& saved, const BatchRows& rows) const;
  TensorRef attend(Context& ctx, const ConstTensorRef& q_nope, const ConstTensorRef& q_pe, const Pass& pass,
                   Index layer) const;
  void attend_expanded(Context& ctx, const ConstTensorRef& q_nope, const ConstTensorRef& q_pe, const Pass& pass,
                       Index layer, const TensorRef& o) const;
  void attend_absorbed(Context& ctx, const ConstTensorRef& q_nope, const ConstTensorRef& q_pe, const Pass& pass,
                       Index layer, const TensorRef& o) const;
};

}  // namespace hadal::model
