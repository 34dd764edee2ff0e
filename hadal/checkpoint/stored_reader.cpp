#include "hadal/checkpoint/stored_reader.h"

#include "hadal/ops/elementwise.h"
#include "hadal/ops/quantize.h"
#include "hadal/ops/quantize_int.h"

namespace hadal::checkpoint {

using config::WeightFormat;

StoredReader::StoredReader(Context& ctx, const io::CheckpointFiles& files, const weights::StoredParam& stored,
                           const Shape& shape)
    : ctx_(ctx), scheme_(stored.scheme), shape_(shape) {
  if (scheme_.format == WeightFormat::kAwq)
    awq_ = weights::awq_matrix(stored, files);
  else
    weight_ = weights::reference_stored(stored, files, owned_);
}

TensorRef StoredReader::read_awq(Index begin, Index end) const {
  const Index rows = end - begin;
  const Shape grid{rows, awq_.scales.size(0)};
  const TensorRef codes = ctx_.workspace.tensor(DType::kI32, {rows, ops::num_blocks(shape_[1], 8)}),
                  scale = ctx_.workspace.tensor(awq_.scales.dtype(), grid),
                  zero = ctx_.workspace.tensor(DType::kU8, grid);
  ops::repack_awq(awq_, begin, end, codes, zero, scale, &ctx_.threads);
  const ops::Weight w{.values = codes,
                      .scale = scale,
                      .zero = zero,
                      .scale_rows = 1,
                      .scale_columns = scheme_.group_size,
                      .packed_columns = shape_[1]};
  const TensorRef out = ctx_.workspace.floats({rows, shape_[1]});
  ops::dequantize(ctx_, w, out);
  return out;
}

ConstTensorRef StoredReader::read(Index begin, Index end) const {
  if (scheme_.format == WeightFormat::kAwq) return read_awq(begin, end);
  if (scheme_.format == WeightFormat::kFloat) {
    const ConstTensorRef part = shape_.rank() > 0 ? weight_.values.rows(begin, end) : weight_.values;
    const TensorRef out = ctx_.workspace.floats(part.shape());
    const bool vector = part.rank() == 1;
    ops::to_float(ctx_, vector ? part.reshape({1, part.size(0)}) : part, vector ? out.reshape({1, out.size(0)}) : out);
    return out;
  }
  const TensorRef out = ctx_.workspace.floats({end - begin, shape_[1]});
  if (scheme_.format == WeightFormat::kFp8Blocks)
    ops::dequantize_blocks(ctx_, weight_.rows(begin, end), out);
  else
    ops::dequantize(ctx_, weight_.rows(begin, end), out);
  return out;
}

}  // namespace hadal::checkpoint
