#include "hadal/stream/device_weights.h"

#include <map>
#include <utility>

#include "hadal/core/transfer.h"

namespace hadal::stream {

void move_to_device(Context& ctx, model::Transformer& t, std::vector<Tensor>& owned) {
  std::vector<Tensor> copies;
  std::map<const void*, std::size_t> copy_of;  // by address: a head may be the embedding
  t.for_each_param([&](const std::string&, weights::Weight& weight, const weights::ParamInfo&) {
    weight.for_each_tensor([&](ConstTensorRef& tensor) {
      const auto [known, is_new] = copy_of.try_emplace(tensor.address(), copies.size());
      if (is_new) {
        copies.emplace_back(tensor.dtype(), tensor.shape(), ctx.memory);
        transfer(ctx.memory, tensor, copies.back());
      }
      tensor = copies[known->second];
    });
    weight.clean = nullptr;  // the host's
  });
  owned = std::move(copies);
}

}  // namespace hadal::stream
