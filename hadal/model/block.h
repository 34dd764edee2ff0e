// One transformer layer, and the multi-token-prediction module built around one (DeepSeek-V3 report, section 2.2).
#pragma once

#include <optional>
#include <string>

#include "hadal/model/mla.h"
#include "hadal/model/moe.h"

namespace hadal::model {

struct Block {
  RmsNorm input_layernorm, post_attention_layernorm;
  Mla self_attn;
  std::optional<Moe> moe;  // one of the two
  std::optional<FeedForward> mlp;

  Block() = default;
  Block(const Config& c, bool is_moe, const Part& part);

  // x [T, hidden], the residual stream, is updated in place. `layer` counts all layers of the model, MTP's last.
  void forward(Context& ctx, const TensorRef& x, const Pass& pass, Index layer) const;
  WorkspaceNeed need(const Context& ctx, const Pass& pass, Index layer) const;

  // Training.
  struct Saved {
    RmsNorm::Saved attn_norm, ffn_norm;
    ConstTensorRef h, u;  // what the norms gave; nothing with Keep::recompute
    Mla::Saved attn;
    Moe::Saved moe;
    FeedForward::Saved mlp;
  };
  struct Deltas {
    ConstTensorRef h, u;  // with respect to what the norms gave,
    ConstTensorRef normed_h, normed_u;  // and that itself
    RmsNorm::Saved attn_norm, ffn_norm;
    Mla::Deltas attn;
    Moe::Deltas moe;
    FeedForward::Deltas mlp;
  };
  // The residual stream x [T, hidden], which must live as long as `saved`, to the next one, in keep.kept.
  TensorRef forward(Context& ctx, const ConstTensorRef& x, const BatchRows& rows, const Keep& keep, Saved& saved) const;
  // `balance` as in Moe.
  TensorRef backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, double balance,
                           const Saved& saved, Deltas& d) const;
  void backward_weight(Context& ctx, const Saved& saved, const Deltas& d) const;

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    input_layernorm.for_each_param(name + ".input_layernorm", f);
    self_attn.for_each_param(name + ".self_attn", f);
    post_attention_layernorm.for_each_param(name + ".post_attention_layernorm", f);
    if (moe) moe->for_each_param(name + ".mlp", f);
    if (mlp) mlp->for_each_param(name + ".mlp", f);
  }
};

// Depth k of multi-token prediction, equations 21-23: from the hidden state of position i and the token i + k it
// predicts token i + k + 1. Depth 1 is given the main model's hidden state after the final norm, a deeper one the
// previous depth's after its shared_head.norm (rule 38).
struct Mtp {
  RmsNorm enorm, hnorm;
  Linear eh_proj;
  Block block;
  struct SharedHead {
    RmsNorm norm;
    Linear head;  // repeats lm_head (rule 39)
  } shared_head;
  Weight embed_tokens;  // repeats model.embed_tokens
  Index vocab_size = 0, hidden_size = 0;  // of embed_tokens

  Mtp() = default;
  Mtp(const Config& c, bool is_moe, const Part& part);

  // embedded [T, hidden] of the next tokens, previous [T, hidden] -> hidden states after shared_head.norm.
  TensorRef forward(Context& ctx, const ConstTensorRef& embedded, const ConstTensorRef& previous, const Pass& pass,
                    Index layer) const;
  // Training: the same with rows of sequences that are 1 + depth shorter than the batch's.
  struct Saved {
    RmsNorm::Saved enorm, hnorm, head_norm;
    ConstTensorRef joined;  // [T, 2 hidden]
    Block::Saved block;
  };
  struct Deltas {
    ConstTensorRef hidden, x, embedded, previous;  // of what the head's norm gave, of what the block begins with
    Block::Deltas block;
  };
  struct Inputs {
    ConstTensorRef embedded, previous;
  };
  TensorRef forward(Context& ctx, const Inputs& in, const BatchRows& rows, const Keep& keep, Saved& saved) const;
  Inputs backward_input(Context& ctx, const ConstTensorRef& dy, const BatchRows& rows, double balance,
                        const Saved& saved, Deltas& d) const;
  void backward_weight(Context& ctx, const Saved& saved, const Deltas& d) const;

  // What its block begins with (equation 21).
  TensorRef join(Context& ctx, const ConstTensorRef& embedded, const ConstTensorRef& previous) const;

  template <class F>
  void for_each_param(const std::string& name, F&& f) {
    const auto repeated = [&](const std::string& param, Weight& weight, ParamInfo info) {
      info.optional = true;
      f(param, weight, info);
    };
    repeated(name + ".embed_tokens.weight", embed_tokens,
             ParamInfo{.shape = {vocab_size, hidden_size},
                       .role = ParamRole::kEmbedding,
                       .shard_axis = ShardAxis::kOutputs});
    enorm.for_each_param(name + ".enorm", f);
    hnorm.for_each_param(name + ".hnorm", f);
    eh_proj.for_each_param(name + ".eh_proj", ParamRole::kProjection, f);
    block.for_each_param(name, f);
    shared_head.norm.for_each_param(name + ".shared_head.norm", f);
    shared_head.head.for_each_param(name + ".shared_head.head", ParamRole::kHead, repeated);
  }
};

}  // namespace hadal::model
