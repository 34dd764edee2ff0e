// The mixture when the routed experts come from an ExpertStore: computed in waves, as they arrive, with the same bits.
#include <algorithm>
#include <numeric>

#include "hadal/stream/expert_store.h"
#include "hadal/model/moe.h"
#include "hadal/ops/expert_waves.h"

namespace hadal::model {
namespace {

std::vector<Index> chosen_experts(const ops::ExpertGroups& groups) {
  std::vector<Index> needed;
  for (std::size_t e = 0; e + 1 < groups.begin.size(); ++e)
    if (groups.begin[e] < groups.begin[e + 1]) needed.push_back(static_cast<Index>(e));
  return needed;
}

}  // namespace

TensorRef Moe::streamed(Context& ctx, const TensorRef& u, const ops::Selection& chosen,
                        const std::function<void()>& while_reading) const {
  const ops::FeedForwardRef shared = has_shared_experts ? shared_experts.weights() : ops::FeedForwardRef{};
  const bool ue8m0 = gate.linear.ue8m0;
  const ops::ExpertGroups groups = ops::group_by_expert(chosen.experts, static_cast<Index>(experts.size()));
  const std::vector<Index> needed = chosen_experts(groups);
  ExpertStore::Lease lease = store->acquire(store_layer, needed);
  if (while_reading) while_reading();
  std::vector<Index> wave = lease.next(false);
  if (wave.size() == needed.size()) return ops::mixture(ctx, u, chosen, lease.weights(), shared, ue8m0);
  const TensorRef outputs = ctx.workspace.floats({chosen.experts.num_elements(), u.size(1)});
  const auto compute = [&] {
    if (!wave.empty()) ops::expert_outputs(ctx, u, groups, wave, lease.weights(), ue8m0, outputs);
  };
  compute();
  const TensorRef from_shared = shared ? ops::expert_output(ctx, u, shared, ue8m0) : TensorRef();
  while (!(wave = lease.next()).empty()) compute();
  const TensorRef out = ops::combine_experts(ctx, outputs, groups, chosen.weights);
  if (shared) ops::add_in_place(ctx, out, from_shared);
  return out;
}

void Moe::prefetch(Context& ctx, const TensorRef& u) const {
  if (!store) return;
  const Workspace::Scope scope(ctx.workspace);
  const ops::Selection guess = gate.forward(ctx, u, {});
  std::vector<double> weight(experts.size());
  const auto chosen = guess.experts.view<std::int32_t, 2>();
  const auto weights = guess.weights.view<float, 2>();
  for (Index t = 0; t < chosen.shape[0]; ++t)
    for (Index s = 0; s < chosen.shape[1]; ++s) weight[static_cast<std::size_t>(chosen(t, s))] += double{weights(t, s)};
  std::vector<Index> ranked(experts.size());
  std::iota(ranked.begin(), ranked.end(), 0);
  std::stable_sort(ranked.begin(), ranked.end(), [&](Index a, Index b) {
    return weight[static_cast<std::size_t>(a)] > weight[static_cast<std::size_t>(b)];
  });
  while (!ranked.empty() && weight[static_cast<std::size_t>(ranked.back())] == 0) ranked.pop_back();
  store->prefetch(store_layer, ranked);
}

}  // namespace hadal::model
