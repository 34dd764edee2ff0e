// What a prompt that runs in chunks need not make again: keys and values of a sequence's first positions, of all heads
// of one layer, as attention reads them. Their bits do not depend on the chunk that made them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hadal/ops/attention.h"

namespace hadal::ops {

class ExpandedKeys {
 public:
  // On the device of `memory`, which must outlive it.
  explicit ExpandedKeys(DeviceMemory& memory) : device_(memory) {}
  Index length() const { return length_; }  // positions
  // Memory for positions [0, end); those there already stay. Where there is none, everything is given up and the result
  // is empty: keeping is never worth more than running.
  std::span<const TensorRef> reserve(const HeadSizes& head, Index heads, Index end);
  void set_length(Index length) { length_ = length; }  // within what is reserved

  // What reserve takes: whole pieces of some blocks.
  static std::uint64_t bytes(const HeadSizes& head, Index heads, Index positions);

 private:
  DeviceMemory& device_;
  std::vector<Tensor> memory_;
  std::vector<TensorRef> blocks_;
  Index length_ = 0;
};

}  // namespace hadal::ops
