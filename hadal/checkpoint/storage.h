// How a checkpoint stores its parameters in each target format, and the cutting of large tensors into pieces.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/checkpoint/gptq.h"
#include "hadal/config/config.h"
#include "hadal/core/context.h"
#include "hadal/io/safetensors.h"
#include "hadal/weights/param.h"

namespace hadal::checkpoint {

enum class Target { kF32, kBf16, kFp8, kInt8, kInt4 };
Target target_from_name(std::string_view name);  // "f32", "bf16", "fp8", "int8", "int4"

struct StorageOptions {
  Target target = Target::kBf16;
  bool ue8m0 = false;     // FP8 scales as powers of two
  Index group_size = 32;  // of INT4
  // lm_head and its repeats in the MTP layers: kBf16, kInt8 or kInt4; empty: INT8 in an INT4 model, else as the target
  // has it (BF16, F32). In an INT4 model the linears of the MTP layers are INT8 too, unless the head is INT4.
  std::optional<Target> head = {};
};
// Throws Error if the options contradict each other.
void check_storage(const StorageOptions& options);
std::string describe_storage(const StorageOptions& options);  // differs wherever the bytes may; for fingerprints

// How one parameter is stored.
struct Encoding {
  config::WeightScheme scheme;
  DType dtype;  // of the values
};

// Quantised are the linears of attention and experts; embedding, norms, router and the MTP layer's eh_proj stay BF16
// (rule 36); the routing bias is F32 always (rule 25). INT8 is 128x128 blocks in an INT8 model, and channels beside
// INT4, as compressed-tensors can describe that. The MTP layer is sensitive (rule 42a). A matrix whose columns are no
// multiple of the INT4 group gets smaller groups, or INT8: other readers of that format know full groups only.
Encoding encoding_of(const weights::ParamInfo& info, const config::Config& config, const StorageOptions& options);

// The tensors of one parameter: values, then companions (scales, shape).
std::vector<io::SafetensorsWriter::Entry> entries_of(const weights::ParamSpec& spec, const Encoding& encoding);

// config.json for weights stored like this: torch_dtype (or dtype) and quantization_config, everything else as it was.
void set_storage(nlohmann::ordered_json& json, const config::Config& config, const StorageOptions& options);

// Rows at a time, in multiples of 128, so that a piece of float32 stays near 32 MiB.
Index rows_per_piece(Index columns);

// One parameter on its way to a file: float32 in, stored bytes (and companions) out.
class PieceEncoder {
 public:
  // `gptq` (INT4 only) may be null: to nearest.
  PieceEncoder(Context& ctx, const Encoding& encoding, bool ue8m0, const Gptq* gptq = nullptr)
      : ctx_(ctx), encoding_(encoding), ue8m0_(ue8m0), gptq_(gptq) {}
  // `piece` F32 [R, C] or [N]: the next rows, a multiple of 128 but for the last. The bytes are in ctx.workspace.
  ConstTensorRef encode(const ConstTensorRef& piece);
  // What comes behind the values, in the order of entries_of, once all pieces are encoded.
  const std::vector<std::byte>& companions();

 private:
  void keep(const ConstTensorRef& scale);

  Context& ctx_;
  Encoding encoding_;
  bool ue8m0_;
  const Gptq* gptq_;
  std::int64_t rows_ = 0, columns_ = 0;
  std::vector<std::byte> companions_;
};

}  // namespace hadal::checkpoint
