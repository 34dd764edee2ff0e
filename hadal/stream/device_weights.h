// The weights of a loaded model in the memory of a device.
#pragma once

#include <vector>

#include "hadal/model/transformer.h"

namespace hadal::stream {

// Copies every tensor that `t` refers to, once, to the device of ctx, whose memory must outlive the model. The copies
// are what `owned` has afterwards: what was copied at loading is freed.
void move_to_device(Context& ctx, model::Transformer& t, std::vector<Tensor>& owned);

}  // namespace hadal::stream
