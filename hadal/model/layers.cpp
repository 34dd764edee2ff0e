#include "hadal/model/layers.h"

namespace hadal::model {

Linear make_linear(const Config& c, Index in_features, Index out_features) {
  return {.in_features = in_features, .out_features = out_features, .ue8m0 = c.ue8m0(), .weight = {}};
}

FeedForward::FeedForward(const Config& c, Index width)
    : gate_proj(make_linear(c, c.hidden_size, width)),
      up_proj(make_linear(c, c.hidden_size, width)),
      down_proj(make_linear(c, width, c.hidden_size)) {}

}  // namespace hadal::model
