#include "hadal/checkpoint/storage.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/core/error.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/quantize.h"

namespace hadal::checkpoint {

Target target_from_name(std::string_view name) {
  if (name == "f32") return Target::kF32;
  if (name == "bf16") return Target::kBf16;
  HADAL_CHECK(name == "fp8", "format: {} is not known; f32, bf16 and fp8 are", name);
  return Target::kFp8;
}

DType stored_dtype(model::ParamRole role, Target target) {
  if (role == model::ParamRole::kRouterBias || target == Target::kF32) return DType::kF32;
  return target == Target::kFp8 && role == model::ParamRole::kLinear ? DType::kF8E4M3 : DType::kBF16;
}

void set_storage(nlohmann::ordered_json& config, Target target, bool ue8m0) {
  const char* field = config.contains("dtype") && !config.contains("torch_dtype") ? "dtype" : "torch_dtype";
  config[field] = target == Target::kF32 ? "float32" : "bfloat16";
  config.erase("quantization_config");
  if (target != Target::kFp8) return;
  nlohmann::ordered_json q = {{"quant_method", "fp8"},
                              {"fmt", "e4m3"},
                              {"activation_scheme", "dynamic"},
                              {"weight_block_size", {ops::kBlock, ops::kBlock}}};
  if (ue8m0) q["scale_fmt"] = "ue8m0";
  config["quantization_config"] = q;
}

Index rows_per_piece(Index columns) {
  constexpr Index kPieceFloats = Index{8} << 20;
  return std::max<Index>(ops::kBlock, kPieceFloats / std::max<Index>(columns, 1) / ops::kBlock * ops::kBlock);
}

TensorRef PieceEncoder::encode(const TensorRef& piece) {
  if (dtype_ == DType::kF32) return piece;
  const TensorRef out = ctx_.workspace.tensor(dtype_, piece.shape());
  if (dtype_ != DType::kF8E4M3) {
    const bool vector = piece.rank() == 1;
    ops::from_float(ctx_, vector ? piece.reshape({1, piece.size(0)}) : piece,
                    vector ? out.reshape({1, out.size(0)}) : out);
    return out;
  }
  const TensorRef scale = ctx_.workspace.floats({ops::num_blocks(piece.size(0)), ops::num_blocks(piece.size(1))});
  ops::quantize_blocks(ctx_, piece, ue8m0_, out, scale);
  scales_.insert(scales_.end(), scale.data<float>(), scale.data<float>() + scale.num_elements());
  return out;
}

}  // namespace hadal::checkpoint
