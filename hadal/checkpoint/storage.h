// How a checkpoint stores its parameters in each target format, and the cutting of large tensors into pieces.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/io/safetensors.h"
#include "hadal/model/config.h"
#include "hadal/model/param.h"

namespace hadal::checkpoint {

enum class Target { kF32, kBf16, kFp8 };
Target target_from_name(std::string_view name);  // "f32", "bf16", "fp8"

// FP8 only for the linears of attention and experts; embedding, head, norms, router and the MTP layer's eh_proj stay
// BF16 (rule 36); the routing bias is F32 always (rule 25).
DType stored_dtype(model::ParamRole role, Target target);

// config.json for weights stored like this: torch_dtype (or dtype) and quantization_config, everything else as it was.
void set_storage(nlohmann::ordered_json& config, Target target, bool ue8m0);

// Rows at a time, in multiples of 128, so that a piece of float32 stays near 32 MiB.
Index rows_per_piece(Index columns);

// One piece of a matrix on its way to a file: float32 in, stored bytes (and scales) out.
class PieceEncoder {
 public:
  PieceEncoder(Context& ctx, DType dtype, bool ue8m0) : ctx_(ctx), dtype_(dtype), ue8m0_(ue8m0) {}
  // `piece` F32 [R, C] or [N]. The bytes are in ctx.workspace.
  TensorRef encode(const TensorRef& piece);
  // Scales of the FP8 pieces so far, row by row.
  const std::vector<float>& scales() const { return scales_; }

 private:
  Context& ctx_;
  DType dtype_;
  bool ue8m0_;
  std::vector<float> scales_;
};

}  // namespace hadal::checkpoint
