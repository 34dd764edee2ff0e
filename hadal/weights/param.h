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

struct ParamInfo {
  Shape shape;
  ParamRole role;
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

}  // namespace hadal::weights
