// The part of a model that one process holds: a range of layers (a pipeline stage), a range of routed experts, and of
// every matrix that can be split its share of the outputs. Outputs are split and gathered, never sums over inputs, so
// that bits do not depend on how many share (design: one order of sums).
#pragma once

#include "hadal/config/config.h"

namespace hadal::model {

struct Range {
  Index begin = 0, end = 0;
  Index count() const { return end - begin; }
  bool contains(Index i) const { return i >= begin && i < end; }
};

struct Part {
  Range layers;   // of all stored layers: the main ones, then MTP's
  Range experts;  // of the routed ones, in every MoE layer
  Index shard = 0, shards = 1;  // outputs [shard, shard + 1) * N / shards of every matrix with ShardAxis::kOutputs

  // The embedding goes with the first layer, the final norm and the head with the last main one.
  bool has_embedding() const { return layers.begin == 0; }
  bool has_head(const config::Config& c) const { return layers.contains(c.num_hidden_layers - 1); }
};

inline Part whole(const config::Config& c) {
  return {.layers = {0, c.num_stored_layers()}, .experts = {0, c.n_routed_experts}};
}

// Throws Error with a sentence if `part` does not fit the config: ranges outside, sizes that `shards` does not divide.
void check_part(const Part& part, const config::Config& c);

}  // namespace hadal::model
