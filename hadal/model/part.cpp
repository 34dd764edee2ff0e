#include "hadal/model/part.h"

#include "hadal/core/error.h"

namespace hadal::model {
namespace {

void check_range(const char* what, const Range& range, Index count) {
  HADAL_CHECK(range.begin >= 0 && range.begin <= range.end && range.end <= count,
              "part: {} [{}, {}) are not among the model's {}", what, range.begin, range.end, count);
}

}  // namespace

void check_part(const Part& part, const config::Config& c) {
  check_range("layers", part.layers, c.num_stored_layers());
  check_range("experts", part.experts, c.n_routed_experts);
  HADAL_CHECK(part.shards >= 1 && part.shard >= 0 && part.shard < part.shards, "part: shard {} of {}", part.shard,
              part.shards);
  for (const auto& [field, size] : {std::pair{"num_attention_heads", c.num_attention_heads},
                                    {"intermediate_size", c.intermediate_size},
                                    {"moe_intermediate_size", c.moe_intermediate_size * c.n_shared_experts},
                                    {"hidden_size", c.hidden_size},
                                    {"vocab_size", c.vocab_size}})
    HADAL_CHECK(size % part.shards == 0, "part: {} {} cannot be split into {} equal shards", field, size, part.shards);
}

}  // namespace hadal::model
