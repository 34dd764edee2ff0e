// What layers are told of a training batch, and where they keep what their backward passes need.
#pragma once

#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/row_range.h"
#include "hadal/ops/rope.h"

namespace hadal::model {

// Rows of a batch: sequences one after another, positions from 0 in each.
struct BatchRows {
  std::vector<RowRange> sequences;
  std::vector<RowRange> attended;  // what attention stays within: the sequences, or documents packed into them
  ops::RopeTable rope;             // of every row
  Index tokens() const { return sequences.empty() ? 0 : sequences.back().end; }
};

// Results that the backward pass needs are made in `kept`'s workspace. With `recompute` norms, SwiGLU and MLA's
// up-projections are not among them: they are made again (report, section 3.2.3), to the same bits.
struct Keep {
  Context& kept;
  bool recompute = false;
  // Where what is cheap to make again is made.
  Context& cheap(Context& ctx) const { return recompute ? ctx : kept; }
};

}  // namespace hadal::model
