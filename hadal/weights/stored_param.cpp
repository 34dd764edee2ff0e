#include "hadal/weights/stored_param.h"

#include <fmt/format.h>

#include <algorithm>

#include "hadal/core/number_formats.h"
#include "hadal/ops/elementwise.h"

namespace hadal::weights {

using config::Config;
using config::WeightFormat;
using config::WeightScheme;
namespace {

using Faults = std::vector<std::string>;

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

bool may_be_fp8(ParamRole role) {
  return role == ParamRole::kLinear;
}

bool may_be_integer(ParamRole role) {
  return role == ParamRole::kLinear || role == ParamRole::kHead;
}

Index blocks(Index n, Index size) {
  return ops::num_blocks(n, size);
}

// The group size that gives so many scales a row. Where two would, the matrix has one group and both mean the same.
Index group_size_of(Index columns, Index groups) {
  for (const Index size : kGroupSizes)
    if (blocks(columns, size) == groups) return size;
  return 0;
}

// One scale for each of n rows, or one for all.
bool is_scale_per_row(const Shape& scale, Index n) {
  const Shape one, listed{1}, rows{n}, column{n, 1};
  return scale == one || scale == listed || scale == rows || scale == column;
}

Shape scale_grid(const ParamSpec& spec) {
  return {blocks(spec.info.shape[0], ops::kBlock), blocks(spec.info.shape[1], ops::kBlock)};
}

StoredParam find_fp8(const ParamSpec& spec, const io::CheckpointFiles& files) {
  const std::string inv = block_scale_name(spec.name), plain = scale_name(spec.name);
  StoredParam p{
      {WeightFormat::kFp8Blocks}, spec.name, files.contains(inv) || !files.contains(plain) ? inv : plain, "", ""};
  const io::TensorInfo* scale = files.info(p.scale);
  if (scale && is_matrix(spec.info.role) && scale->shape != scale_grid(spec) &&
      is_scale_per_row(scale->shape, spec.info.shape[0]))
    p.scheme.format = WeightFormat::kFp8Channels;
  return p;
}

StoredParam find_int8(const ParamSpec& spec, const io::CheckpointFiles& files) {
  const std::string inv = block_scale_name(spec.name), plain = scale_name(spec.name);
  StoredParam p{{WeightFormat::kInt8Blocks}, spec.name, files.contains(inv) ? inv : plain, "", ""};
  const io::TensorInfo* scale = files.info(p.scale);
  const bool has_blocks = scale ? scale->shape == scale_grid(spec) : false;
  if (scale && !has_blocks && p.scale == plain) p.scheme.format = WeightFormat::kInt8Channels;
  return p;
}

StoredParam find_packed(const ParamSpec& spec, const io::CheckpointFiles& files) {
  StoredParam p{{WeightFormat::kInt4Packed}, packed_name(spec.name), scale_name(spec.name), "", shape_name(spec.name)};
  const io::TensorInfo* scale = files.info(p.scale);
  const Shape& packed = files.info(p.values)->shape;
  const Index columns = spec.info.shape[1];
  if (packed.rank() == 2 && packed[1] == blocks(columns, 4) && packed[1] != blocks(columns, 8))
    p.scheme.format = WeightFormat::kInt8Packed;
  const bool eight_bits = p.scheme.format == WeightFormat::kInt8Packed;
  const bool per_row = scale && is_scale_per_row(scale->shape, spec.info.shape[0]);
  if (scale && scale->shape.rank() == 2 && !(eight_bits && per_row))
    p.scheme.group_size = group_size_of(columns, scale->shape[1]);
  // One group as long as the row.
  if (!eight_bits && per_row && p.scheme.group_size == 0) p.scheme.group_size = columns;
  return p;
}

StoredParam find_awq(const ParamSpec& spec, const io::CheckpointFiles& files) {
  StoredParam p{{WeightFormat::kAwq},
                awq_name(spec.name, "qweight"),
                awq_name(spec.name, "scales"),
                awq_name(spec.name, "qzeros"),
                ""};
  const io::TensorInfo* scale = files.info(p.scale);
  if (scale && scale->shape.rank() == 2) p.scheme.group_size = group_size_of(spec.info.shape[1], scale->shape[0]);
  return p;
}

std::string expected_dtypes(ParamRole role) {
  return fmt::format("F32, BF16 and F16{}{} are", may_be_fp8(role) ? ", F8_E4M3 with a scale" : "",
                     may_be_integer(role) ? ", I8 with a scale" : "");
}

void check_dtype(const ParamSpec& spec, const StoredParam& p, DType dtype, Faults& faults) {
  const ParamRole role = spec.info.role;
  const WeightFormat f = p.scheme.format;
  if (f == WeightFormat::kInt4Packed || f == WeightFormat::kInt8Packed || f == WeightFormat::kAwq) {
    if (!may_be_integer(role))
      faults.push_back(fmt::format("{}: is {}, but only linears and the head can be quantised", p.values,
                                   f == WeightFormat::kInt8Packed ? "INT8" : "INT4"));
    if (dtype != DType::kI32)
      faults.push_back(fmt::format("{}: dtype {}, I32 was expected", p.values, dtype_name(dtype)));
    return;
  }
  const bool good =
      is_float(dtype) || (dtype == DType::kF8E4M3 && may_be_fp8(role)) || (dtype == DType::kI8 && may_be_integer(role));
  if (!good)
    faults.push_back(
        fmt::format("{}: dtype {} is not supported here, {}", spec.name, dtype_name(dtype), expected_dtypes(role)));
}

void check_shape(const std::string& name, const Shape& got, const Shape& expected, const char* why, Faults& faults) {
  if (got != expected)
    faults.push_back(fmt::format("{}: has shape {}, {}{}", name, got.to_string(), expected.to_string(), why));
}

// Presence, shape and dtype of a companion tensor.
const io::TensorInfo* companion(const io::CheckpointFiles& files, const std::string& name, const StoredParam& p,
                                const Shape& expected, std::initializer_list<DType> dtypes, const char* why,
                                Faults& faults) {
  const io::TensorInfo* info = files.info(name);
  if (!info) {
    faults.push_back(
        fmt::format("{}: is missing, {} is {} and needs it", name, p.values, dtype_name(files.info(p.values)->dtype)));
    return nullptr;
  }
  check_shape(name, info->shape, expected, why, faults);
  if (std::find(dtypes.begin(), dtypes.end(), info->dtype) == dtypes.end()) {
    std::string list;
    for (const DType dtype : dtypes) list += (list.empty() ? "" : ", ") + std::string(dtype_name(dtype));
    faults.push_back(fmt::format("{}: dtype {} is not supported; supported: {}", name, dtype_name(info->dtype), list));
    return nullptr;
  }
  return info->shape == expected ? info : nullptr;
}

// A scale per row, or per block of a grid.
void check_scale(const ParamSpec& spec, const StoredParam& p, const io::CheckpointFiles& files,
                 std::initializer_list<DType> dtypes, Faults& faults) {
  const WeightFormat f = p.scheme.format;
  const bool channels = f == WeightFormat::kInt8Channels || f == WeightFormat::kFp8Channels;
  const io::TensorInfo* scale = files.info(p.scale);
  const bool per_row = channels && scale && is_scale_per_row(scale->shape, spec.info.shape[0]);
  const Shape expected = per_row ? scale->shape : channels ? Shape{spec.info.shape[0], 1} : scale_grid(spec);
  companion(files, p.scale, p, expected, dtypes,
            channels ? " was expected (one scale per row, or one per 128x128 block)"
                     : " was expected (one scale per 128x128 block)",
            faults);
}

void check_int8(const ParamSpec& spec, const StoredParam& p, const io::CheckpointFiles& files, Faults& faults) {
  if (files.contains(p.scale)) return check_scale(spec, p, files, {DType::kF32, DType::kBF16, DType::kF16}, faults);
  faults.push_back(fmt::format("{}: has neither {} nor {}, one of which an I8 weight needs", spec.name,
                               block_scale_name(spec.name), scale_name(spec.name)));
}

void check_packed(const ParamSpec& spec, const StoredParam& p, const io::CheckpointFiles& files, Faults& faults) {
  const Index n = spec.info.shape[0], k = spec.info.shape[1];
  const bool eight_bits = p.scheme.format == WeightFormat::kInt8Packed;
  check_shape(p.values, files.info(p.values)->shape, {n, blocks(k, eight_bits ? 4 : 8)},
              eight_bits ? " was expected (four codes a word)" : " was expected (eight codes a word)", faults);
  const io::TensorInfo* scale = files.info(p.scale);
  const bool per_row = scale && is_scale_per_row(scale->shape, n) && (eight_bits || p.scheme.group_size >= k);
  const Index groups = p.scheme.group_size ? blocks(k, p.scheme.group_size) : blocks(k, kGroupSizes[0]);
  companion(files, p.scale, p, per_row ? scale->shape : Shape{n, groups}, {DType::kBF16, DType::kF16, DType::kF32},
            p.scheme.group_size ? " was expected" : " was expected with groups of 32 (64 and 128 are supported too)",
            faults);
  if (!companion(files, p.shape, p, {2}, {DType::kI64, DType::kI32}, " was expected", faults)) return;
  const ConstTensorRef shape = files.find(p.shape);
  const auto at = [&](Index i) {
    return shape.dtype() == DType::kI64 ? shape.data<std::int64_t>()[i] : Index{shape.data<std::int32_t>()[i]};
  };
  if (at(0) != n || at(1) != k)
    faults.push_back(
        fmt::format("{}: says [{}, {}], config.json says {}", p.shape, at(0), at(1), spec.info.shape.to_string()));
}

void check_awq(const ParamSpec& spec, const StoredParam& p, const io::CheckpointFiles& files, Faults& faults) {
  const Index n = spec.info.shape[0], k = spec.info.shape[1];
  if (n % 8 != 0) {
    faults.push_back(fmt::format("{}: {} has {} rows, AWQ packs multiples of 8", p.values, spec.name, n));
    return;
  }
  check_shape(p.values, files.info(p.values)->shape, {k, n / 8}, " was expected (inputs by outputs / 8)", faults);
  const Index groups = p.scheme.group_size ? blocks(k, p.scheme.group_size) : blocks(k, 128);
  const char* why =
      p.scheme.group_size ? " was expected" : " was expected with groups of 128 (32 and 64 are supported too)";
  companion(files, p.scale, p, {groups, n}, {DType::kF16, DType::kBF16, DType::kF32}, why, faults);
  companion(files, p.zero, p, {groups, n / 8}, {DType::kI32}, why, faults);
}

void check_against_config(const ParamSpec& spec, const StoredParam& p, const Config& config, Faults& faults) {
  const WeightFormat format = p.scheme.format;
  if (!config.quantization || format == WeightFormat::kFloat) return;
  const bool grouped = format == WeightFormat::kInt4Packed || format == WeightFormat::kAwq ||
                       (format == WeightFormat::kInt8Packed && p.scheme.group_size > 0);
  if (grouped && p.scheme.group_size == 0) return;  // said already
  const auto& schemes = config.quantization->schemes;
  // A matrix with one group a row fits every group size.
  const auto fits = [&](const WeightScheme& s) {
    // One scale a row and one group as long as the row are the same.
    const Index columns = spec.info.shape[1];
    const bool whole_row = p.scheme.group_size == 0 || p.scheme.group_size >= columns;
    if (s.format != format) return false;
    if (s.group_size == 0 || p.scheme.group_size == 0)
      return whole_row && (s.group_size == 0 || s.group_size >= columns);
    return blocks(columns, s.group_size) == blocks(columns, p.scheme.group_size);
  };
  if (std::any_of(schemes.begin(), schemes.end(), fits)) return;
  faults.push_back(fmt::format("{}: is {}, but quantization_config of config.json says {}", p.values,
                               scheme_name(p.scheme), config.quantization->description()));
}

void stray_companions(const ParamSpec& spec, const io::CheckpointFiles& files, Faults& faults) {
  for (const std::string& name : {block_scale_name(spec.name), scale_name(spec.name)})
    if (files.contains(name))
      faults.push_back(fmt::format("{}: there is a scale, but {} is not F8_E4M3 or I8", name, spec.name));
}

}  // namespace

std::string awq_name(const std::string& weight, const char* part) {
  const std::string suffix = "weight";
  return weight.ends_with("." + suffix) ? weight.substr(0, weight.size() - suffix.size()) + part : weight + "." + part;
}

std::vector<std::string> StoredParam::tensors() const {
  std::vector<std::string> names = {values};
  for (const std::string& name : {scale, zero, shape})
    if (!name.empty()) names.push_back(name);
  return names;
}

std::optional<StoredParam> find_stored(const ParamSpec& spec, const io::CheckpointFiles& files) {
  const io::TensorInfo* info = files.info(spec.name);
  if (info && (!is_matrix(spec.info.role) || info->dtype != DType::kI8)) {
    if (info->dtype == DType::kF8E4M3) return find_fp8(spec, files);
    return StoredParam{{WeightFormat::kFloat}, spec.name, "", "", ""};
  }
  if (info) return find_int8(spec, files);
  if (!is_matrix(spec.info.role)) return std::nullopt;
  if (files.contains(packed_name(spec.name))) return find_packed(spec, files);
  if (files.contains(awq_name(spec.name, "qweight"))) return find_awq(spec, files);
  return std::nullopt;
}

std::vector<std::string> parameter_faults(const ParamSpec& spec, const io::CheckpointFiles& files,
                                          const Config& config) {
  Faults faults;
  const auto stored = find_stored(spec, files);
  if (!stored) {
    if (!spec.info.optional) faults.push_back(spec.name + ": is missing");
    return faults;
  }
  const io::TensorInfo& info = *files.info(stored->values);
  check_dtype(spec, *stored, info.dtype, faults);
  switch (stored->scheme.format) {
    case WeightFormat::kFloat:
      if (is_matrix(spec.info.role)) stray_companions(spec, files, faults);
      break;
    case WeightFormat::kFp8Blocks:
      if (is_matrix(spec.info.role))
        check_scale(spec, *stored, files, {DType::kF32, DType::kBF16, DType::kF8E8M0}, faults);
      break;
    case WeightFormat::kFp8Channels:
      check_scale(spec, *stored, files, {DType::kF32, DType::kBF16, DType::kF16}, faults);
      break;
    case WeightFormat::kInt8Blocks:
    case WeightFormat::kInt8Channels:
      check_int8(spec, *stored, files, faults);
      break;
    case WeightFormat::kInt4Packed:
    case WeightFormat::kInt8Packed:
      check_packed(spec, *stored, files, faults);
      break;
    case WeightFormat::kAwq:
      check_awq(spec, *stored, files, faults);
      break;
  }
  if (stored->values == spec.name && info.shape != spec.info.shape)
    faults.push_back(fmt::format("{}: has shape {}, config.json says {}", spec.name, info.shape.to_string(),
                                 spec.info.shape.to_string()));
  if (is_matrix(spec.info.role)) check_against_config(spec, *stored, config, faults);
  return faults;
}

Tensor float_scale(const ConstTensorRef& stored) {
  if (stored.dtype() != DType::kF8E8M0) return ops::float_copy(stored);
  Tensor copy(DType::kF32, stored.shape());
  const auto* codes = static_cast<const std::uint8_t*>(stored.raw());
  for (Index i = 0; i < stored.num_elements(); ++i) copy->data<float>()[i] = ue8m0_to_float(codes[i]);
  return copy;
}

ops::AwqMatrix awq_matrix(const StoredParam& stored, const io::CheckpointFiles& files) {
  return {files.find(stored.values), files.find(stored.zero), files.find(stored.scale)};
}

namespace {

// Four codes a word, the first in the low bits, each stored plus 128.
Tensor unpacked_int8(const ConstTensorRef& packed, Index columns) {
  Tensor codes(DType::kI8, {packed.size(0), columns});
  const auto* bytes = static_cast<const std::uint8_t*>(packed.raw());
  std::int8_t* to = codes->data<std::int8_t>();
  const Index stride = packed.size(1) * 4;
  for (Index r = 0; r < packed.size(0); ++r, to += columns)
    for (Index c = 0; c < columns; ++c) to[c] = static_cast<std::int8_t>(bytes[r * stride + c] ^ 0x80);
  return codes;
}

// One scale, repeated for all rows.
Tensor repeated_scale(const ConstTensorRef& one, Index rows) {
  const Tensor value = float_scale(one);
  Tensor all(DType::kF32, {rows, 1});
  std::fill_n(all->data<float>(), rows, *value->data<float>());
  return all;
}

Index stored_columns(const StoredParam& stored, const io::CheckpointFiles& files) {
  const ConstTensorRef shape = files.find(stored.shape);
  return shape.dtype() == DType::kI64 ? shape.data<std::int64_t>()[1] : Index{shape.data<std::int32_t>()[1]};
}

}  // namespace

ops::Weight reference_stored(const StoredParam& stored, const io::CheckpointFiles& files, std::vector<Tensor>& own,
                             bool in_place) {
  const auto find = [&](const std::string& name) { return in_place ? files.find_in_place(name) : files.find(name); };
  const WeightFormat format = stored.scheme.format;
  if (format == WeightFormat::kFloat) return {.values = find(stored.values)};
  ops::Weight w;
  if (format == WeightFormat::kInt8Packed)
    w.values = own.emplace_back(unpacked_int8(files.find(stored.values), stored_columns(stored, files)));
  else
    w.values = find(stored.values);
  const bool int4 = format == WeightFormat::kInt4Packed;
  const bool as_stored = int4 || files.info(stored.scale)->dtype == DType::kF32;
  w.scale = as_stored ? find(stored.scale) : own.emplace_back(float_scale(files.find(stored.scale)));
  if (format == WeightFormat::kFp8Blocks || format == WeightFormat::kInt8Blocks) return w;
  const Index rows = w.values.size(0);
  if (w.scale.rank() == 1 && w.scale.size(0) == rows) w.scale = w.scale.reshape({rows, 1});
  if (w.scale.rank() < 2) w.scale = own.emplace_back(repeated_scale(files.find(stored.scale), rows));
  w.scale_rows = 1;
  if (int4) w.packed_columns = stored_columns(stored, files);
  w.scale_columns = stored.scheme.group_size ? stored.scheme.group_size : std::max<Index>(1, w.values.size(1));
  return w;
}

}  // namespace hadal::weights
