// quantization_config of config.json: what it promises about the stored weights. What a tensor really is, the tensors
// that exist say (stored_param.h); the two are compared at loading.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::config {

class ConfigReader;

// How a matrix lies in a checkpoint.
enum class WeightFormat {
  kFloat,         // F32, BF16 or F16
  kFp8Blocks,     // E4M3 with a scale per 128x128 block
  kFp8Channels,   // E4M3 with a scale per row, or one for all
  kInt8Blocks,    // I8 with a scale per 128x128 block
  kInt8Channels,  // I8 with a scale per row
  kInt8Packed,    // compressed-tensors pack-quantized: 8 bits, symmetric, a scale per row or per group of a row
  kInt4Packed,    // compressed-tensors pack-quantized: 4 bits, symmetric, a scale per group of a row or per row
  kAwq,           // AutoAWQ "gemm": 4 bits with zero points, transposed
};

// One format that may occur. A checkpoint can mix several.
struct WeightScheme {
  WeightFormat format = WeightFormat::kFloat;
  Index group_size = 0;  // of 4-bit and packed formats: 32, 64 or 128; 0 or the matrix's columns: the whole row
  friend bool operator==(const WeightScheme&, const WeightScheme&) = default;
};

std::string scheme_name(const WeightScheme& scheme);  // "INT4 (pack-quantized, groups of 32)"

struct Quantization {
  std::string method;                 // quant_method, as published
  std::vector<WeightScheme> schemes;  // besides unquantised tensors
  bool ue8m0 = false;                 // fp8 with scale_fmt "ue8m0"

  std::string description() const;  // all schemes, for people
};

inline constexpr Index kGroupSizes[] = {32, 64, 128};

// Methods: fp8, blockwise_int8 (Block-INT8), w8a8_int8 (Channel-INT8), compressed-tensors (pack-quantized INT4 and
// INT8, int-quantized INT8, float-quantized FP8, several in mixed-precision) and awq. Everything else is a violation
// that says what is supported. The field may be called compression_config, as compressed-tensors once called it.
std::optional<Quantization> read_quantization(ConfigReader& in);

}  // namespace hadal::config
