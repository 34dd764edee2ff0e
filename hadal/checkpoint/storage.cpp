#include "hadal/checkpoint/storage.h"

#include <fmt/format.h>

#include <algorithm>

#include "hadal/core/error.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/quantize.h"
#include "hadal/ops/quantize_int.h"
#include "hadal/weights/stored_param.h"

namespace hadal::checkpoint {

using config::WeightFormat;
using weights::ParamRole;
using Entry = io::SafetensorsWriter::Entry;

Target target_from_name(std::string_view name) {
  if (name == "f32") return Target::kF32;
  if (name == "bf16") return Target::kBf16;
  if (name == "int8") return Target::kInt8;
  if (name == "int4") return Target::kInt4;
  HADAL_CHECK(name == "fp8", "format: {} is not known; f32, bf16, fp8, int8 and int4 are", name);
  return Target::kFp8;
}

void check_storage(const StorageOptions& o) {
  HADAL_CHECK(!o.ue8m0 || o.target == Target::kFp8, "format: power-of-two scales (--ue8m0) go with fp8");
  HADAL_CHECK(std::find(std::begin(config::kGroupSizes), std::end(config::kGroupSizes), o.group_size) !=
                  std::end(config::kGroupSizes),
              "group: {} is not supported; 32, 64 and 128 are", o.group_size);
  if (!o.head) return;
  const bool integers = o.target == Target::kInt8 || o.target == Target::kInt4;
  HADAL_CHECK(integers, "head: another format for the head goes with int8 and int4");
  HADAL_CHECK(
      *o.head == Target::kBf16 || *o.head == Target::kInt8 || (*o.head == Target::kInt4 && o.target == Target::kInt4),
      "head: bf16 and int8 are possible, int4 in an int4 model");
}

std::string describe_storage(const StorageOptions& o) {
  return fmt::format("target {} ue8m0 {} group {} head {}", static_cast<int>(o.target), o.ue8m0, o.group_size,
                     o.head ? static_cast<int>(*o.head) : -1);
}

namespace {

Encoding float_encoding(DType dtype) {
  return {{WeightFormat::kFloat}, dtype};
}

// compressed-tensors has no groups that are not full: where the columns make none of the wanted size, the next smaller
// size that fits, and where none fits INT8.
std::optional<Index> fitting_group(Index columns, Index wanted) {
  std::optional<Index> best;
  for (const Index size : config::kGroupSizes)
    if (size <= wanted && columns % size == 0) best = size;
  return best;
}

Encoding integer_encoding(Target target, const weights::ParamInfo& info, const StorageOptions& o) {
  if (target == Target::kInt4)
    if (const auto group = fitting_group(info.shape[1], o.group_size))
      return {{WeightFormat::kInt4Packed, *group}, DType::kI32};
  const bool blocks = o.target == Target::kInt8;
  return {{blocks ? WeightFormat::kInt8Blocks : WeightFormat::kInt8Channels}, DType::kI8};
}

Encoding head_encoding(const weights::ParamInfo& info, const StorageOptions& o) {
  const Target head = o.head.value_or(o.target == Target::kInt4 ? Target::kInt8 : Target::kBf16);
  return head == Target::kBf16 ? float_encoding(DType::kBF16) : integer_encoding(head, info, o);
}

Encoding linear_encoding(const weights::ParamInfo& info, const config::Config& config, const StorageOptions& o) {
  if (o.target == Target::kBf16) return float_encoding(DType::kBF16);
  if (o.target == Target::kFp8) return {{WeightFormat::kFp8Blocks}, DType::kF8E4M3};
  const bool mtp = info.layer >= config.num_hidden_layers;
  return integer_encoding(mtp && o.head != Target::kInt4 ? Target::kInt8 : o.target, info, o);
}

}  // namespace

Encoding encoding_of(const weights::ParamInfo& info, const config::Config& config, const StorageOptions& o) {
  if (info.role == ParamRole::kRouterBias || o.target == Target::kF32) return float_encoding(DType::kF32);
  if (info.role == ParamRole::kLinear) return linear_encoding(info, config, o);
  return info.role == ParamRole::kHead ? head_encoding(info, o) : float_encoding(DType::kBF16);
}

std::vector<Entry> entries_of(const weights::ParamSpec& spec, const Encoding& encoding) {
  const Shape& shape = spec.info.shape;
  switch (encoding.scheme.format) {
    case WeightFormat::kFp8Blocks:
    case WeightFormat::kInt8Blocks:
      return {
          {spec.name, encoding.dtype, shape},
          {weights::block_scale_name(spec.name), DType::kF32, {ops::num_blocks(shape[0]), ops::num_blocks(shape[1])}}};
    case WeightFormat::kInt8Channels:
      return {{spec.name, encoding.dtype, shape}, {weights::scale_name(spec.name), DType::kF32, {shape[0], 1}}};
    case WeightFormat::kInt4Packed:
      return {{weights::packed_name(spec.name), encoding.dtype, {shape[0], ops::num_blocks(shape[1], 8)}},
              {weights::scale_name(spec.name),
               DType::kBF16,
               {shape[0], ops::num_blocks(shape[1], encoding.scheme.group_size)}},
              {weights::shape_name(spec.name), DType::kI64, {2}}};
    default:
      return {{spec.name, encoding.dtype, shape}};
  }
}

Index rows_per_piece(Index columns) {
  constexpr Index kPieceFloats = Index{8} << 20;
  return std::max<Index>(ops::kBlock, kPieceFloats / std::max<Index>(columns, 1) / ops::kBlock * ops::kBlock);
}

void PieceEncoder::keep(const ConstTensorRef& scale) {
  const auto* bytes = static_cast<const std::byte*>(scale.raw());
  companions_.insert(companions_.end(), bytes, bytes + scale.num_bytes());
}

ConstTensorRef PieceEncoder::encode(const ConstTensorRef& piece) {
  const Index rows = piece.size(0), columns = piece.rank() > 1 ? piece.size(1) : 1;
  const Index group = encoding_.scheme.group_size;
  rows_ += rows;
  columns_ = columns;
  const bool packed = encoding_.scheme.format == WeightFormat::kInt4Packed;
  if (encoding_.dtype == DType::kF32) return piece;
  const TensorRef out =
      ctx_.workspace.tensor(encoding_.dtype, packed ? Shape{rows, ops::num_blocks(columns, 8)} : piece.shape());
  TensorRef scale;
  switch (encoding_.scheme.format) {
    case WeightFormat::kFp8Blocks:
      scale = ctx_.workspace.floats({ops::num_blocks(rows), ops::num_blocks(columns)});
      ops::quantize_blocks(ctx_, piece, ue8m0_, out, scale);
      break;
    case WeightFormat::kInt8Blocks:
      scale = ctx_.workspace.floats({ops::num_blocks(rows), ops::num_blocks(columns)});
      ops::quantize_int8_blocks(ctx_, piece, out, scale);
      break;
    case WeightFormat::kInt8Channels:
      scale = ctx_.workspace.floats({rows, 1});
      ops::quantize_int8_rows(ctx_, piece, out, scale);
      break;
    case WeightFormat::kInt4Packed:
      scale = ctx_.workspace.tensor(DType::kBF16, {rows, ops::num_blocks(columns, group)});
      if (gptq_)
        gptq_->quantize(ctx_, piece, group, out, scale);
      else
        ops::quantize_int4(ctx_, piece, group, out, scale);
      break;
    default: {
      const bool vector = piece.rank() == 1;
      ops::from_float(ctx_, vector ? piece.reshape({1, rows}) : piece, vector ? out.reshape({1, rows}) : out);
      return out;
    }
  }
  keep(scale);
  return out;
}

const std::vector<std::byte>& PieceEncoder::companions() {
  if (encoding_.scheme.format == WeightFormat::kInt4Packed && columns_ > 0) {
    const std::int64_t shape[2] = {rows_, columns_};
    const auto* bytes = reinterpret_cast<const std::byte*>(shape);
    companions_.insert(companions_.end(), bytes, bytes + sizeof(shape));
    columns_ = 0;  // said once
  }
  return companions_;
}

}  // namespace hadal::checkpoint
