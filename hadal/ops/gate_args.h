// How a GateRule becomes the arguments of a kernel. Internal to ops.
#pragma once

#include "hadal/kernels/gate.h"
#include "hadal/ops/experts.h"

namespace hadal::ops {

// Throws Error for shapes and rules that do not fit.
kernels::GateArgs gate_args(const Context& ctx, const ConstTensorRef& logits, const ConstTensorRef& bias,
                            const GateRule& rule);

}  // namespace hadal::ops
