// The whole model: embedding, layers, final norm, head, and the MTP modules behind them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hadal/model/block.h"
#include "hadal/model/rotary.h"
#include "hadal/model/sequence_state.h"

namespace hadal::model {

// Tokens that a forward pass runs behind what a sequence holds, and how. A sequence may occur only once in a pass;
// those in the absorbed form come first. `to_come`: how many tokens of the prompt are left for later passes, which need
// not make its keys and values again then, as far as the pools' kept_bytes go; it changes no bit.
struct Segment {
  std::span<const TokenId> ids;
  SequenceState& state;
  Form form;
  Index to_come = 0;
};

std::vector<TokenId> all_ids(std::span<const Segment> segments);
// What a pass of the main model runs for them.
std::vector<Pass::Run> main_runs(std::span<const Segment> segments);
// Of all sequences that share memory with these, whether they are in the pass or not.
std::uint64_t cache_bytes(std::span<const Segment> segments);

struct Transformer {
  Config config;
  Part part;  // what this process holds of it
  Rotary rotary;
  Weight embed_tokens;
  std::vector<Block> layers;
  RmsNorm norm;
  Linear lm_head;
  std::vector<Mtp> mtp;
  TokenDispatcher* experts = &local_experts();  // where the routed experts are; not owned

  // Shapes only; the weights come from load_model (loader.h) or stay empty, for counting and initialising.
  explicit Transformer(const Config& c);
  Transformer(const Config& c, const Part& held);

  // Memory for the caches of sequences; SequenceState(pools, capacity) makes one.
  CachePools new_pools(DType cache_dtype, Index max_pages = 0, std::uint64_t kept_bytes = 0,
                       DeviceMemory& memory = host_memory()) const;
  // A sequence with memory of its own.
  SequenceState new_sequence(Index capacity, DType cache_dtype = DType::kF32,
                             DeviceMemory& memory = host_memory()) const {
    return {new_pools(cache_dtype, 0, 0, memory), capacity};
  }

  // Runs the segments' ids at the positions behind their state.main and returns their hidden states after the final
  // norm, one segment's rows after the other's [T, hidden], in ctx.workspace. All ids must lie in [0, vocab_size). A
  // sequence's bits do not depend on what else is in the pass. Throws InvalidRequest if a cache has no room and what
  // observers throw; then every sequence is as long as before.
  TensorRef hidden(Context& ctx, std::span<const Segment> segments) const;
  TensorRef hidden(Context& ctx, std::span<const TokenId> ids, Form form, SequenceState& state) const {
    const Segment segment{ids, state, form};
    return hidden(ctx, std::span(&segment, 1));
  }

  // What a pass of the main model takes of ctx.workspace at most, results included.
  WorkspaceNeed need(const Context& ctx, const Pass& pass) const;

  // Depth `depth` (0-based) for positions behind state.mtp[depth]: ids[i] of a segment is token i + 1 + depth, previous
  // [T, hidden] the hidden states of the depth before (the main model's for depth 0). Returns hidden states after
  // shared_head.norm.
  TensorRef mtp_hidden(Context& ctx, Index depth, std::span<const Segment> next, const ConstTensorRef& previous) const;
  TensorRef mtp_hidden(Context& ctx, Index depth, std::span<const TokenId> next_ids, const ConstTensorRef& previous,
                       Form form, SequenceState& state) const {
    const Segment segment{next_ids, state, form};
    return mtp_hidden(ctx, depth, std::span(&segment, 1), previous);
  }

  // [T, hidden] -> [T, vocab_size].
  TensorRef logits(Context& ctx, const ConstTensorRef& hidden) const {
    return ctx.observe("logits", lm_head.forward(ctx, hidden));
  }
  TensorRef mtp_logits(Context& ctx, Index depth, const ConstTensorRef& hidden) const {
    return mtp[static_cast<std::size_t>(depth)].shared_head.head.forward(ctx, hidden);
  }

  // Every parameter that is held: f(name, weight, info), in the order of the published names' layers.
  template <class F>
  void for_each_param(F&& f) {
    // A tied head is the embedding.
    if (part.has_embedding() || (config.tie_word_embeddings && part.has_head(config)))
      f(std::string("model.embed_tokens.weight"), embed_tokens,
        ParamInfo{.shape = {lm_head.out_features, config.hidden_size},
                  .role = ParamRole::kEmbedding,
                  .shard_axis = ShardAxis::kOutputs});
    Index index = part.layers.begin;
    const auto in_layer = [&](const std::string& name, Weight& weight, ParamInfo info) {
      info.layer = index;
      f(name, weight, info);
    };
    for (Block& block : layers) {
      block.for_each_param("model.layers." + std::to_string(index), in_layer);
      ++index;
    }
    if (part.has_head(config)) {
      norm.for_each_param("model.norm", f);
      lm_head.for_each_param("lm_head", ParamRole::kHead, [&](const std::string& name, Weight& weight, ParamInfo info) {
        info.optional = config.tie_word_embeddings;
        f(name, weight, info);
      });
    }
    for (Mtp& module : mtp) {
      module.for_each_param("model.layers." + std::to_string(index), in_layer);
      ++index;
    }
  }
};

// The list that for_each_param walks, for code that needs names and shapes but no model.
std::vector<ParamSpec> parameter_list(const Config& c);

}  // namespace hadal::model
