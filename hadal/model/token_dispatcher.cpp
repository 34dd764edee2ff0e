#include "hadal/model/token_dispatcher.h"

#include "hadal/model/moe.h"

namespace hadal::model {
namespace {

class LocalExperts : public TokenDispatcher {
 public:
  void dispatch(Context&, const Moe&, const RoutedTokens&) override {}
  TensorRef combine(Context& ctx, const Moe& moe, const RoutedTokens& tokens) override {
    const auto held = static_cast<Index>(moe.experts.size());
    HADAL_CHECK(held == moe.gate.n_routed_experts,
                "experts: layer {} holds {} of {} routed experts; tokens cannot be sent to the others from here",
                tokens.layer, held, moe.gate.n_routed_experts);
    const ops::ExpertGroups groups = ops::group_by_expert(ctx, tokens.chosen, held);
    std::vector<ops::FeedForwardRef> chosen(moe.experts.size());
    for (std::size_t e = 0; e < chosen.size(); ++e)
      if (groups.begin[e] < groups.begin[e + 1]) chosen[e] = moe.experts[e].weights();
    return ops::mixture(ctx, tokens.u, groups, tokens.chosen.weights, chosen, moe.shared(), moe.ue8m0());
  }
  WorkspaceNeed need(const Context& ctx, const Moe& moe, Index tokens, Index) const override {
    return ops::mixture_need(ctx, tokens, moe.gate.linear.in_features, moe.gate.rule.num_experts_per_tok,
                             moe.weights(), moe.shared());
  }
};

}  // namespace

TokenDispatcher& local_experts() {
  static LocalExperts local;
  return local;
}

}  // namespace hadal::model
