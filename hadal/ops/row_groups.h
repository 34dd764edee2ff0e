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

// What room the scales and zero points of a weight take that can be grouped with its rows, each a multiple of 64 bytes:
// 0 where they are not those of single rows, or of rows within another matrix.
std::uint64_t grouped_grid_bytes(const Weight& w);

// Copies them to to[i] (grouped_grid_bytes(), 64-byte aligned), in the order of the packed form, which each weight must
// have, and makes them part of it. Those of the rows form stay.
void group_grids(Context& ctx, std::span<Weight* const> weights, std::span<std::byte* const> to);

// Whether products of ctx round x to int8 and with it the weight, which then is better rounded once.
bool rounds_to_int8(const Context& ctx, const Weight& w);

// Of a weight that is rounded so: bytes of its codes, and of its scales behind them, together a multiple of 64.
std::uint64_t rounded_bytes(const Weight& w);

// Makes each weight, in FP8 or BF16, one in INT8, packed as ctx's kernels read it, with a scale for every 128 columns
// of a row, grouped too, in to[i] (rounded_bytes(), 64-byte aligned); rows form it has none. Products of ctx have the
// bits that they had.
void round_to_int8(Context& ctx, std::span<Weight* const> weights, std::span<std::byte* const> to);

}  // namespace hadal::ops
