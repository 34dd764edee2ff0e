// The values of a stored parameter as float32, rows at a time, whatever its format.
#pragma once

#include <string>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/weights/stored_param.h"

namespace hadal::checkpoint {

class StoredReader {
 public:
  // The parameter must be without faults; `shape` is what the config says.
  StoredReader(Context& ctx, const io::CheckpointFiles& files, const weights::StoredParam& stored, const Shape& shape);

  const Shape& shape() const { return shape_; }
  // Rows [begin, end) F32, in ctx.workspace: the F32 product of code and scale. `begin` is a multiple of 128.
  ConstTensorRef read(Index begin, Index end) const;

 private:
  TensorRef read_awq(Index begin, Index end) const;

  Context& ctx_;
  config::WeightScheme scheme_;
  Shape shape_;
  ops::Weight weight_;  // all but AWQ
  ops::AwqMatrix awq_;
  std::vector<Tensor> owned_;
};

}  // namespace hadal::checkpoint
