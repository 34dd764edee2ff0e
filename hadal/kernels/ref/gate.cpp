#include "hadal/kernels/gate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hadal/core/not_finite.h"

namespace hadal::kernels {

// Scores are compared: nothing that is no number may be among them. A bias of minus infinity keeps an expert for last.
void check_scores(const GateArgs& args, View<const float, 2> logits) {
  for (Index t = 0; t < logits.shape[0]; ++t)
    for (Index e = 0; e < args.n_routed_experts; ++e)
      if (!std::isfinite(logits(t, e)))
        throw NotFinite(fmt::format("gate: the router's score of expert {} is {}, a finite number was expected; `hadal "
                                    "verify` looks for damaged weights",
                                    e, logits(t, e)));
  for (Index e = 0; args.bias && e < args.n_routed_experts; ++e)
    HADAL_CHECK(args.bias[e] < std::numeric_limits<float>::infinity(),
                "gate: e_score_correction_bias of expert {} is {}, a number was expected; `hadal verify` looks for "
                "damaged weights",
                e, args.bias[e]);
}

namespace ref {
namespace {

// What may not be chosen, or not again. No score is NaN, but a bias may be minus infinity.
constexpr double kOut = std::numeric_limits<double>::quiet_NaN();

void score(const GateArgs& a, const float* logits, double* scores) {
  const Index n = a.n_routed_experts;
  if (a.sigmoid) {
    for (Index e = 0; e < n; ++e) scores[e] = 1.0 / (1.0 + std::exp(-double{logits[e]}));
    return;
  }
  const double largest = *std::max_element(logits, logits + n);
  double sum = 0;
  for (Index e = 0; e < n; ++e) sum += scores[e] = std::exp(double{logits[e]} - largest);
  for (Index e = 0; e < n; ++e) scores[e] /= sum;
}

// The sum of the `best` largest of n values, largest first.
double sum_of_best(const double* values, Index n, Index best) {
  double sum = 0;
  double previous = std::numeric_limits<double>::infinity();
  Index taken = 0;
  while (taken < std::min(best, n)) {
    double largest = -std::numeric_limits<double>::infinity();
    Index count = 0;
    for (Index i = 0; i < n; ++i) {
      if (values[i] >= previous || values[i] < largest) continue;
      count = values[i] > largest ? 1 : count + 1;
      largest = values[i];
    }
    if (count == 0) break;
    const Index used = std::min(count, best - taken);
    sum += largest * static_cast<double>(used);
    taken += used;
    previous = largest;
  }
  return sum;
}

// The first of equals, among those that are not out.
Index index_of_largest(const double* values, Index n) {
  Index best = 0;
  for (Index i = 1; i < n; ++i)
    if (values[i] > values[best] || std::isnan(values[best])) best = i;
  return best;
}

// The indices of the `count` largest, those that are out aside, the largest first, the first of equals first.
void best_of(const double* values, Index n, Index count, std::int32_t* best) {
  Index found = 0;
  for (Index i = 0; i < n; ++i) {
    const double value = values[i];
    if (std::isnan(value) || (found == count && value <= values[best[count - 1]])) continue;
    Index at = found < count ? found++ : count - 1;
    for (; at > 0 && value > values[best[at - 1]]; --at) best[at] = best[at - 1];
    best[at] = static_cast<std::int32_t>(i);
  }
  std::fill(best + found, best + count, static_cast<std::int32_t>(n - 1));
}

void exclude_groups(const GateArgs& a, double* selection, double* group_scores) {
  const Index size = a.n_routed_experts / a.n_group;
  for (Index g = 0; g < a.n_group; ++g) group_scores[g] = sum_of_best(selection + g * size, size, a.group_best);
  for (Index kept = 0; kept < a.topk_group; ++kept) group_scores[index_of_largest(group_scores, a.n_group)] = kOut;
  for (Index g = 0; g < a.n_group; ++g)
    if (!std::isnan(group_scores[g])) std::fill_n(selection + g * size, size, kOut);
}

}  // namespace

void choose(const GateArgs& a, double* scores, std::int32_t* experts) {
  const Index n = a.n_routed_experts;
  double* selection = scores + n;
  for (Index e = 0; e < n; ++e) selection[e] = scores[e] + (a.bias ? double{a.bias[e]} : 0.0);
  if (a.n_group > 1) exclude_groups(a, selection, scores + 2 * n);
  best_of(selection, n, a.num_experts_per_tok, experts);
}

void gate(const GateArgs& a, const float* logits, double* scores, std::int32_t* experts, float* weights) {
  score(a, logits, scores);
  choose(a, scores, experts);
  double sum = 0;
  for (Index i = 0; i < a.num_experts_per_tok; ++i) sum += scores[experts[i]];
  const double factor = a.routed_scaling_factor / (a.norm_topk_prob ? sum + 1e-20 : 1.0);
  for (Index i = 0; i < a.num_experts_per_tok; ++i) weights[i] = static_cast<float>(scores[experts[i]] * factor);
}

}  // namespace ref
}  // namespace hadal::kernels
