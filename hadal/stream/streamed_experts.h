// The token dispatcher of a model larger than memory: experts come from an ExpertStore and are computed in waves, as
// they arrive, with the bits of a model in memory. While a layer computes, the next layer's router is run on the
// residual stream as it stands - this layer's feed-forward and the next attention have not been added - and what it
// chooses is read ahead.
#pragma once

#include <optional>
#include <vector>

#include "hadal/model/transformer.h"
#include "hadal/stream/expert_store.h"

namespace hadal::stream {

class StreamedExperts : public model::TokenDispatcher {
 public:
  // `t` and `store` must outlive it. `store_layer_of[i]`: the store's number of the model's layer i, -1 if it is dense.
  StreamedExperts(const model::Transformer& t, ExpertStore& store, std::vector<Index> store_layer_of);

  void begin_pass(std::uint64_t other_bytes) override;
  void approach(Context& ctx, Index layer, const ConstTensorRef& x) override;
  void dispatch(Context& ctx, const model::Moe& moe, const model::RoutedTokens& tokens) override;
  TensorRef combine(Context& ctx, const model::Moe& moe, const model::RoutedTokens& tokens) override;
  WorkspaceNeed need(const Context& ctx, const model::Moe& moe, Index tokens, Index layer) const override;
  WorkspaceNeed approach_need(const Context& ctx, Index tokens, Index layer) const override;

 private:
  // What is known of a layer before it runs: its norm and its gate.
  struct Ahead {
    const model::RmsNorm* norm = nullptr;  // null: nothing to guess
    const model::Gate* gate = nullptr;
  };
  void look_ahead(Context& ctx, Index layer);

  ExpertStore& store_;
  std::vector<Index> store_layer_of_;
  std::vector<Ahead> ahead_;  // by layer: the one after it
  ConstTensorRef x_;          // the residual stream of the layer that runs
  ops::ExpertGroups groups_;
  std::vector<Index> needed_;
  std::optional<ExpertStore::Lease> lease_;  // from dispatch to combine
};

}  // namespace hadal::stream
