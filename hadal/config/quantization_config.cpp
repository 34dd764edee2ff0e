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
  const bool blocks = in.has("weight_block_size");
  check_blocks(in, "weight_block_size");
  const std::string scale_format = in.text_or("scale_fmt", "");
  if (!scale_format.empty() && scale_format != "ue8m0")
    in.violation("scale_fmt is \"{}\", only ue8m0 is known", scale_format);
  q.ue8m0 = scale_format == "ue8m0";
  q.schemes = {{WeightFormat::kFp8Blocks}};
  if (!blocks) q.schemes.push_back({WeightFormat::kFp8Channels});  // the tensors say which
  for (const char* field : {"modules_to_not_convert", "ignored_layers", "dequantize"}) in.ignore(field);
}

void read_int8(ConfigReader& in, Quantization& q) {
  check_dynamic(in);
  const bool blocks = q.method == "blockwise_int8";
  if (blocks) check_blocks(in, "weight_block_size");
  q.schemes = {{blocks ? WeightFormat::kInt8Blocks : WeightFormat::kInt8Channels}};
  for (const char* field : {"modules_to_not_convert", "ignored_layers"}) in.ignore(field);
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
  for (const char* field : {"modules_to_not_convert", "exllama_config", "backend", "do_fuse", "fuse_max_seq_len",
                            "modules_to_fuse", "w_bit", "q_group_size"})
    in.ignore(field);
}

// What weights of a compressed-tensors group are; empty if Hadal does not read such.
std::optional<WeightFormat> format_of(const std::string& type, Index bits, const std::string& strategy,
                                      const std::string& format) {
  const bool rows = strategy == "channel" || strategy == "tensor", grouped = strategy == "group";
  const std::string& s = strategy;
  if (type == "int" && format == "pack-quantized") {
    if (bits == 4 && (grouped || s == "channel")) return WeightFormat::kInt4Packed;
    if (bits == 8 && (grouped || s == "channel")) return WeightFormat::kInt8Packed;
  }
  if (type == "int" && bits == 8 && format == "int-quantized") {
    if (rows) return WeightFormat::kInt8Channels;
    if (s == "block") return WeightFormat::kInt8Blocks;
  }
  if (type == "float" && bits == 8 && (format == "float-quantized" || format == "naive-quantized")) {
    if (rows) return WeightFormat::kFp8Channels;
    if (s == "block") return WeightFormat::kFp8Blocks;
  }
  return std::nullopt;
}

// Groups that follow the activations' order need an index per column. "dynamic" is another name of it, as "static" is
// of "weight", whose columns are where they were.
bool follows_activations(ConfigReader& weights) {
  if (weights.is_boolean("actorder")) return weights.boolean_or("actorder", false);
  const std::string order = weights.text_or("actorder", "");
  if (order.empty() || order == "weight" || order == "static") return false;
  return true;
}

std::optional<WeightScheme> read_weights(ConfigReader& weights, const std::string& format) {
  const Index bits = weights.size_or("num_bits", 0, 1);
  const std::string type = weights.text_or("type", "int"), strategy = weights.text_or("strategy", "");
  for (const char* field : {"observer", "observer_kwargs", "block_structure", "group_size", "scale_dtype", "zp_dtype"})
    weights.ignore(field);
  if (!weights.boolean_or("symmetric", true)) {
    weights.violation("symmetric is false; symmetric weights are supported");
    return std::nullopt;
  }
  if (weights.has("dynamic") && (!weights.is_boolean("dynamic") || weights.boolean_or("dynamic", false))) {
    weights.violation("dynamic is not false; weights with stored scales are supported");
    return std::nullopt;
  }
  if (follows_activations(weights)) {
    weights.violation("actorder is \"{}\"; groups of neighbouring columns are supported",
                      weights.is_boolean("actorder") ? "true" : weights.text_or("actorder", ""));
    return std::nullopt;
  }
  const auto known = format_of(type, bits, strategy, format);
  if (!known) {
    weights.object_violation(
        "{} bits of type {}, strategy \"{}\", format \"{}\" are not supported; 4-bit and 8-bit int groups or channels "
        "in "
        "pack-quantized, 8-bit int channels or blocks in int-quantized and 8-bit float channels or blocks in "
        "float-quantized are",
        bits, type, strategy, format);
    return std::nullopt;
  }
  WeightScheme scheme{*known};
  if (strategy == "group") {
    scheme.group_size = weights.size_or("group_size", 0, 1);
    check_group_size(weights, "group_size", scheme.group_size);
  }
  if (strategy == "block") check_blocks(weights, "block_structure");
  return scheme;
}

void read_compressed_tensors(ConfigReader& in, Quantization& q) {
  const std::string format = in.text_or("format", "");
  if (in.has("sparsity_config")) {
    ConfigReader sparsity = in.object("sparsity_config");
    for (const std::string& field : sparsity.fields()) sparsity.ignore(field.c_str());
    const std::string sparse = sparsity.text_or("format", "dense");
    if (sparse != "dense") sparsity.violation("format is \"{}\"; only dense is supported", sparse);
  }
  for (const char* field : {"quantization_status", "global_compression_ratio", "ignore", "kv_cache_scheme", "version"})
    in.ignore(field);
  if (in.has("transform_config") && !in.object("transform_config").fields().empty())
    in.violation("transform_config is not supported; weights without rotations are");
  ConfigReader groups = in.object("config_groups");
  for (const std::string& name : groups.fields()) {
    ConfigReader group = groups.object(name.c_str());
    for (const char* field : {"targets", "input_activations", "output_activations", "weights", "format"})
      group.ignore(field);
    if (!group.has("weights")) continue;
    const std::string own = group.text_or("format", "");
    ConfigReader weights = group.object("weights");
    const auto scheme = read_weights(weights, own.empty() ? format : own);
    if (scheme && std::find(q.schemes.begin(), q.schemes.end(), *scheme) == q.schemes.end())
      q.schemes.push_back(*scheme);
  }
  if (q.schemes.empty()) groups.object_violation("names no supported weights");
}

}  // namespace

std::string scheme_name(const WeightScheme& scheme) {
  switch (scheme.format) {
    case WeightFormat::kFp8Blocks:
      return "FP8 (e4m3, 128x128 blocks)";
    case WeightFormat::kFp8Channels:
      return "FP8 (e4m3, channels)";
    case WeightFormat::kInt8Blocks:
      return "INT8 (128x128 blocks)";
    case WeightFormat::kInt8Channels:
      return "INT8 (channels)";
    case WeightFormat::kInt8Packed:
      return scheme.group_size ? fmt::format("INT8 (pack-quantized, groups of {})", scheme.group_size)
                               : "INT8 (pack-quantized, channels)";
    case WeightFormat::kInt4Packed:
      return scheme.group_size ? fmt::format("INT4 (pack-quantized, groups of {})", scheme.group_size)
                               : "INT4 (pack-quantized, channels)";
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

namespace {

std::optional<Quantization> read_method(ConfigReader q) {
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

}  // namespace

std::optional<Quantization> read_quantization(ConfigReader& in) {
  constexpr const char *kName = "quantization_config", *kOldName = "compression_config";
  const bool has = in.has(kName), has_old = in.has(kOldName);
  in.ignore(kName);
  in.ignore(kOldName);
  if (has && has_old) in.violation("{} and {} are both there; remove the one that is not meant", kName, kOldName);
  if (has) return read_method(in.object(kName));
  if (!has_old) return std::nullopt;
  ConfigReader old = in.object(kOldName);
  // Beside a sparsity_config the quantisation once had an object of its own.
  return read_method(old.is_object(kName) ? old.object(kName) : old);
}

}  // namespace hadal::config
