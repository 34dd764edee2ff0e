// Parameters, enumerated once: for_each_param of the layers names every tensor of a model with its shape and role, and
// loading, initialising, verifying, converting and counting all use that one list.
#pragma once

#include <string>
#include <vector>

#include "hadal/ops/weight.h"

namespace hadal::weights {

using ops::Weight;

enum class ParamRole {
  kLinear,      // matrices of attention and experts: what checkpoints quantise
  kProjection,  // the MTP layer's eh_proj: never quantised (rule 36)
  kRouter,      // gate.weight: never quantised
  kEmbedding,
  kHead,        // may be INT8 or INT4, never FP8
  kNorm,        // gains [D]
  kRouterBias,  // e_score_correction_bias [E], always F32 (rule 25)
};

// How machines side by side may split a parameter.
enum class ShardAxis {
  kNone,     // every process holds it whole
  kOutputs,  // rows [N, K]: each computes its share of the outputs
  kExperts,  // whole experts, each with one process
};

struct ParamInfo {
  Shape shape;  // of the part that is held, if a model is split
  ParamRole role;
  ShardAxis shard_axis = ShardAxis::kNone;
  Index layer = -1;       // -1 outside the layers
  bool optional = false;  // a repeated or tied tensor that a checkpoint may leave out
  bool routed_expert = false;
};

struct ParamSpec {
  std::string name;
  ParamInfo info;
};

inline bool is_matrix(ParamRole role) {
  return role != ParamRole::kNorm && role != ParamRole::kRouterBias;
}

// What AdamW does to a parameter beside following its gradient (report, section 4.2: weight decay 0.1).
enum class DecayGroup {
  kDecay,    // matrices
  kNoDecay,  // gains
  kFixed,    // the routing bias: moved by expert load, not by a gradient (section 2.1.2)
};
inline DecayGroup decay_group(ParamRole role) {
  if (role == ParamRole::kRouterBias) return DecayGroup::kFixed;
  return is_matrix(role) ? DecayGroup::kDecay : DecayGroup::kNoDecay;
}

}  // namespace hadal::weights
