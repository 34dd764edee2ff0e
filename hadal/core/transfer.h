// Between the host and the device of a Context.
#pragma once

#include "hadal/core/context.h"

namespace hadal {

// `from`, contiguous, to `to` of the same dtype and shape, contiguous too. Each is on the host or on memory's device.
void transfer(DeviceMemory& memory, const ConstTensorRef& from, const TensorRef& to);

// A tensor of the host, contiguous, in ctx.workspace.
TensorRef to_device(Context& ctx, const ConstTensorRef& host);

// Its elements on the host, contiguous; on another device it has to be so already.
Tensor host_copy(Context& ctx, const ConstTensorRef& tensor);

// A contiguous result of the context's device where the host can read and write it: itself if the device is the host,
// otherwise a copy, fetched here.
class OnHost {
 public:
  OnHost(Context& ctx, const TensorRef& result);
  const TensorRef& operator*() const { return here_; }
  const TensorRef* operator->() const { return &here_; }

 private:
  Tensor copy_;
  TensorRef here_;
};

}  // namespace hadal
