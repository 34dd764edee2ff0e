// How one parameter lies in a checkpoint: which tensors make it up, in which format. Whether and how a matrix is
// quantised is decided by the tensors that exist, not by a list of names (rule 36); quantization_config must not
// contradict them.
//
//   format          values                           companions (for a parameter "x.weight")
//   float           x.weight F32, BF16, F16
//   FP8 blocks      x.weight F8_E4M3 [N, K]          x.weight_scale_inv (or weight_scale) [ceil(N/128), ceil(K/128)],
//                                                    a factor despite the name (rule 29): F32, BF16 or F8_E8M0
//   FP8 channels    x.weight F8_E4M3 [N, K]          x.weight_scale [N, 1] or [N], or [1] or [] for all rows: F32,
//                                                    BF16 or F16
//   INT8 blocks     x.weight I8 [N, K]               x.weight_scale_inv (or weight_scale), the same grid, F32 or BF16
//   INT8 channels   x.weight I8 [N, K]               x.weight_scale as of FP8 channels
//   INT8 packed     x.weight_packed I32 [N, ceil(K/4)]  x.weight_scale [N, 1], [N] or [N, ceil(K/g)]: F32, BF16 or F16,
//                                                    x.weight_shape as below; codes are stored plus 128
//   INT4 packed     x.weight_packed I32 [N, ceil(K/8)]  x.weight_scale [N, ceil(K/g)]: BF16, F16 or F32,
//                                                    x.weight_shape [2], I64 or I32: N and K
//   AWQ             x.qweight I32 [K, N/8]           x.qzeros I32 [K/g, N/8], x.scales [K/g, N]: F16, BF16 or F32
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/checkpoint_files.h"
#include "hadal/ops/awq.h"
#include "hadal/weights/param.h"

namespace hadal::weights {

using config::Config;
using config::kGroupSizes;
using config::WeightFormat;
using config::WeightScheme;

// Names of the tensors beside the values.
inline std::string block_scale_name(const std::string& weight) {
  return weight + "_scale_inv";
}
inline std::string scale_name(const std::string& weight) {
  return weight + "_scale";
}
inline std::string packed_name(const std::string& weight) {
  return weight + "_packed";
}
inline std::string shape_name(const std::string& weight) {
  return weight + "_shape";
}
// "x.weight" -> "x.qweight", "x.qzeros" or "x.scales".
std::string awq_name(const std::string& weight, const char* part);

struct StoredParam {
  WeightScheme scheme;
  std::string values;
  std::string scale, zero, shape;  // names of companions; empty: there is none

  std::vector<std::string> tensors() const;  // those that exist, values first
};

// Empty if the checkpoint has no values for the parameter. Companions may be missing: parameter_faults tells.
std::optional<StoredParam> find_stored(const ParamSpec& spec, const io::CheckpointFiles& files);

// What is wrong with one parameter, empty if nothing: presence, shapes, dtypes, companions, agreement with the config's
// quantization_config. For the loader, convert and verify.
std::vector<std::string> parameter_faults(const ParamSpec& spec, const io::CheckpointFiles& files,
                                          const Config& config);

// The matrix as ops take it, without a copy where the layout allows; `own` takes what had to be made: scales as
// float32, packed INT8 as I8. `in_place`: no byte of the values is read, whatever their address (but packed INT8). The
// parameter must be without faults, and not AWQ: that has to be repacked (ops/awq.h).
ops::Weight reference_stored(const StoredParam& stored, const io::CheckpointFiles& files, std::vector<Tensor>& own,
                             bool in_place = false);

ops::AwqMatrix awq_matrix(const StoredParam& stored, const io::CheckpointFiles& files);

// Scales as float32, however they are stored (F32, BF16, F16 or UE8M0).
Tensor float_scale(const ConstTensorRef& stored);

}  // namespace hadal::weights
