#include "hadal/config/quantization_config.h"

#include <algorithm>

#include "hadal/config/config_reader.h"

namespace hadal::config {
namespace {

void check_group_size(ConfigReader& in, const char* field, Index size) {
  if (std::find(std::begin(kGroupSizes), std::end(kGroupSizes), size) == std::end(kGroupSizes))
    in.violation("{} is {}; groups of 32, 64 and 128 are supported", field, size);
}

void check_dynamic(ConfigReader& in) {
  const std::string scheme = in.text_or("activation_scheme", "dynamic");
  if (scheme != "dynamic") in.violation("activation_scheme is \"{}\", only dynamic is supported", scheme);
}

void check_blocks(ConfigReader& in, const char* field) {
  if (in.sizes_or(field, {128, 128}) != std::vector<Index>{128, 128}) in.violation("{} must be [128, 128]", field);
}

void read_fp8(ConfigReader& in, Quantization& q) {
  const std::string format = in.text_or("fmt", "e4m3");
  if (format != "e4m3") in.violation("fmt is \"{}\", only e4m3 is supported", format);
  check_dynamic(in);
  check_blocks(in, "weight_block_size");
  const std::string scale_format = in.text_or("scale_fmt", "");
  if (!scale_format.empty() && scale_format != "ue8m0")
    in.violation("scale_fmt is \"{}\", only ue8m0 is known", scale_format);
  q.ue8m0 = scale_format == "ue8m0";
  q.schemes = {{WeightFormat::kFp8Blocks}};
}

void read_int8(ConfigReader& in, Quantization& q) {
  check_dynamic(in);
  const bool blocks = q.method == "blockwise_int8";
  if (blocks) check_blocks(in, "weight_block_size");
  q.schemes = {{blocks ? WeightFormat::kInt8Blocks : WeightFormat::kInt8Channels}};
}

// Field names of AutoAWQ, and those of its first releases.
void read_awq(ConfigReader& in, Quantization& q) {
  const auto either = [&](const char* field, const char* old, Index otherwise) {
    return in.size_or(in.has(field) ? field : old, otherwise, 1);
  };
  if (const Index bits = either("bits", "w_bit", 4); bits != 4)
    in.violation("bits is {}; AWQ is supported with 4", bits);
  const Index group = either("group_size", "q_group_size", 128);
  check_group_size(in, "group_size", group);
  const std::string version = in.text_or("version", "gemm");
  if (version != "gemm" && version != "GEMM")
    in.violation("version is \"{}\"; of AWQ's layouts gemm is supported", version);
  if (!in.boolean_or("zero_point", true)) in.violation("zero_point is false; AWQ is supported with zero points");
  q.schemes = {{WeightFormat::kAwq, group}};
}

std::optional<WeightScheme> read_weights(ConfigReader& weights, const std::string& format) {
  const Index bits = weights.size_or("num_bits", 0, 1);
  const std::string type = weights.text_or("type", "int"), strategy = weights.text_or("strategy", "");
  if (!weights.boolean_or("symmetric", true)) {
    weights.violation("symmetric is false; symmetric weights are supported");
    return std::nullopt;
  }
  // Groups that follow the activations' order need an index per column.
  if (weights.text_or("actorder", "") == "group") {
    weights.violation("actorder is \"group\"; groups of neighbouring columns are supported");
    return std::nullopt;
  }
  if (type == "int" && bits == 4 && strategy == "group" && format == "pack-quantized") {
    const Index group = weights.size_or("group_size", 0, 1);
    check_group_size(weights, "group_size", group);
    return WeightScheme{WeightFormat::kInt4Packed, group};
  }
  if (type == "int" && bits == 8 && format == "int-quantized" && strategy == "channel")
    return WeightScheme{WeightFormat::kInt8Channels};
  if (type == "int" && bits == 8 && format == "int-quantized" && strategy == "block") {
    check_blocks(weights, "block_structure");
    return WeightScheme{WeightFormat::kInt8Blocks};
  }
  weights.violation(
      "{} bits of type {}, strategy \"{}\", format \"{}\" are not supported; 4-bit int groups in pack-quantized and "
      "8-bit int channels or blocks in int-quantized are",
      bits, type, strategy, format);
  return std::nullopt;
}

void read_compressed_tensors(ConfigReader& in, Quantization& q) {
  const std::string format = in.text_or("format", "");
  if (in.has("sparsity_config")) {
    ConfigReader sparsity = in.object("sparsity_config");
    const std::string sparse = sparsity.text_or("format", "dense");
    if (sparse != "dense") sparsity.violation("format is \"{}\"; only dense is supported", sparse);
  }
  if (in.has("transform_config") && !in.object("transform_config").fields().empty())
    in.violation("transform_config is not supported; weights without rotations are");
  ConfigReader groups = in.object("config_groups");
  for (const std::string& name : groups.fields()) {
    ConfigReader group = groups.object(name.c_str());
    if (!group.has("weights")) continue;
    const std::string own = group.text_or("format", "");
    ConfigReader weights = group.object("weights");
    const auto scheme = read_weights(weights, own.empty() ? format : own);
    if (scheme && std::find(q.schemes.begin(), q.schemes.end(), *scheme) == q.schemes.end())
      q.schemes.push_back(*scheme);
  }
  if (q.schemes.empty()) groups.violation("names no supported weights");
}

}  // namespace

std::string scheme_name(const WeightScheme& scheme) {
  switch (scheme.format) {
    case WeightFormat::kFp8Blocks:
      return "FP8 (e4m3, 128x128 blocks)";
    case WeightFormat::kInt8Blocks:
      return "INT8 (128x128 blocks)";
    case WeightFormat::kInt8Channels:
      return "INT8 (channels)";
    case WeightFormat::kInt4Packed:
      return fmt::format("INT4 (pack-quantized, groups of {})", scheme.group_size);
    case WeightFormat::kAwq:
      return fmt::format("INT4 (AWQ, groups of {})", scheme.group_size);
    default:
      return "float";
  }
}

std::string Quantization::description() const {
  std::string text;
  for (const WeightScheme& scheme : schemes) text += (text.empty() ? "" : ", ") + scheme_name(scheme);
  return ue8m0 ? text + ", power-of-two scales" : text;
}

std::optional<Quantization> read_quantization(ConfigReader& in) {
  if (!in.has("quantization_config")) {
    in.ignore("quantization_config");
    return std::nullopt;
  }
  ConfigReader q = in.object("quantization_config");
  Quantization out;
  out.method = q.text_or("quant_method", "");
  if (out.method == "fp8")
    read_fp8(q, out);
  else if (out.method == "blockwise_int8" || out.method == "w8a8_int8")
    read_int8(q, out);
  else if (out.method == "compressed-tensors")
    read_compressed_tensors(q, out);
  else if (out.method == "awq")
    read_awq(q, out);
  else
    q.violation(
        "quant_method \"{}\" is not supported; fp8, blockwise_int8, w8a8_int8, compressed-tensors and awq are, or "
        "unquantised weights",
        out.method);
  return out;
}

}  // namespace hadal::config
