// Rotary positions (DeepSeek-V3 report, equations 3 and 8; YaRN: arXiv 2309.00071 as in the published modelling code).
// Channels are interleaved pairs, as checkpoints store them (rule 12). Angles are computed in double.
#pragma once

#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"

namespace hadal::ops {

// Cosine and sine of positions[t] * inv_freq, times `magnitude` (1 for every published model, whose mscale and
// mscale_all_dim are equal: rule 15). Positions are those of the rows of a pass, in any order.
struct RopeTable {
  ConstTensorRef cos;  // F64 [T, rope / 2]
  ConstTensorRef sin;
};
RopeTable rope_table(Context& ctx, const std::vector<double>& inv_freq, std::span<const Index> positions,
                     double magnitude);
WorkspaceNeed rope_table_need(Index pairs, Index positions);

// x [T, H, rope], or [T, rope] of one head -> the rotated copy; row t of the table is for token t.
TensorRef rope(Context& ctx, const ConstTensorRef& x, const RopeTable& table);

}  // namespace hadal::ops
