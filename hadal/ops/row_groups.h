// Weights rearranged for the kernels: rows in groups (kernels/linear.h), which the products read as they
// lie, where they transpose rows of a checkpoint as they go. The same size and the same bits of every result; 1.3
// to 1.9 times the speed with few rows of x, where transposing costs as much as multiplying.
#pragma once

#include <span>

#include "hadal/core/context.h"
#include "hadal/ops/weight.h"

namespace hadal::ops {

// Whether the context's kernels read groups beside rows.
bool reads_groups(const Context& ctx);

bool can_group_rows(const Weight& w);

// Copies the values of each weight to to[i] (their size, 64-byte aligned), in the groups that ctx's kernels read, and
// makes that the weight's packed form; the rows form stays. All of them must be ones that can be grouped, and
// reads_groups(ctx). What is learned about NaN codes is noted in Weight::clean.
void group_rows(Context& ctx, std::span<Weight* const> weights, std::span<std::byte* const> to);

}  // namespace hadal::ops
