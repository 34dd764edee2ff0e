#include "hadal/core/transfer.h"

namespace hadal {

void transfer(DeviceMemory& memory, const ConstTensorRef& from, const TensorRef& to) {
  HADAL_CHECK(from.is_contiguous() && to.is_contiguous() && from.shape() == to.shape() && from.dtype() == to.dtype(),
              "transfer: {} {} to {} {}; both are contiguous and alike", dtype_name(from.dtype()),
              from.shape().to_string(), dtype_name(to.dtype()), to.shape().to_string());
  const auto bytes = static_cast<std::size_t>(from.num_bytes());
  const Device device = memory.device();
  if (from.device().is_host() && to.device().is_host())
    host_memory().copy_within(to.raw(), from.raw(), bytes);
  else if (to.device().is_host())
    memory.copy_to_host(to.raw(), from.raw_on(device), bytes);
  else if (from.device().is_host())
    memory.copy_from_host(to.raw_on(device), from.raw(), bytes);
  else
    memory.copy_within(to.raw_on(device), from.raw_on(device), bytes);
}

TensorRef to_device(Context& ctx, const ConstTensorRef& host) {
  const TensorRef there = ctx.workspace.tensor(host.dtype(), host.shape());
  transfer(ctx.memory, host, there);
  return there;
}

Tensor host_copy(Context& ctx, const ConstTensorRef& tensor) {
  if (tensor.device().is_host()) return Tensor::copy_of(tensor);
  Tensor copy(tensor.dtype(), tensor.shape());
  transfer(ctx.memory, tensor, copy);
  return copy;
}

OnHost::OnHost(Context& ctx, const TensorRef& result) : here_(result) {
  if (result.device().is_host()) return;
  copy_ = host_copy(ctx, result);
  here_ = copy_;
}

}  // namespace hadal
