// Activations::kFp8: the input of a product with E4M3 weights, rounded to 1x128 tiles (rule 33).
#pragma once

#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels {

// The products, all of one input, with that input in codes' values and scales (in ctx.workspace) where kFp8 asks for it
// and otherwise as it is. `ue8m0`: scales are powers of two.
std::vector<LinearArgs> with_fp8_inputs(Context& ctx, std::span<const LinearArgs> products, bool ue8m0);
WorkspaceNeed fp8_inputs_need(std::span<const LinearArgs> products);

}  // namespace hadal::kernels
