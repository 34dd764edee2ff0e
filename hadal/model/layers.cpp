#include "hadal/model/layers.h"

namespace hadal::model {

Linear make_linear(const Config& c, Index in_features, Index out_features, ShardAxis axis) {
  return {
      .in_features = in_features, .out_features = out_features, .ue8m0 = c.ue8m0(), .shard_axis = axis, .weight = {}};
}

FeedForward::FeedForward(const Config& c, Index width, Index shards)
    : gate_proj(make_linear(c, c.hidden_size, width / shards, ShardAxis::kOutputs)),
      up_proj(make_linear(c, c.hidden_size, width / shards, ShardAxis::kOutputs)),
      down_proj(make_linear(c, width, c.hidden_size / shards, ShardAxis::kOutputs)) {}

}  // namespace hadal::model
