// Expert selection (DeepSeek-V3 report, equations 12-16; DeepSeek-V2 report, section 2.2): one token's router logits
// in, its experts and their weights out. Scalar, in double: a few hundred values, and near-ties must not depend on the
// machine.
#pragma once

#include <cstdint>

#include "hadal/core/view.h"

namespace hadal::kernels {

struct GateArgs {
  Index n_routed_experts = 0;
  Index num_experts_per_tok = 0;
  Index n_group = 1;  // 1: no group limit
  Index topk_group = 1;
  Index group_best = 1;  // a group's score is the sum of its `group_best` best: 2 for V3, 1 for V2
  bool sigmoid = true;   // otherwise softmax over all experts
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;
  const float* bias = nullptr;  // e_score_correction_bias, for the selection only; nullptr if there is none
};

// Throws Error for a logit that is not finite and for a bias that is NaN or infinity.
void check_scores(const GateArgs& args, View<const float, 2> logits);

namespace ref {
// `scratch` holds 3 * n_routed_experts doubles. Logits must be finite, biases finite or minus infinity (an expert that
// is chosen last), and the kept groups must have num_experts_per_tok experts: whoever calls checks it. Experts come in
// descending order of selection score, the lower index first among equals (rule 27).
void gate(const GateArgs& args, const float* logits, double* scratch, std::int32_t* experts, float* weights);
// What of it follows the scores: which experts are chosen. `scores` are followed by room for 2 * n_routed_experts more.
void choose(const GateArgs& args, double* scores, std::int32_t* experts);
}  // namespace ref

}  // namespace hadal::kernels
