#include "hadal/ops/expanded_keys.h"

#include "hadal/core/out_of_memory.h"

namespace hadal::ops {

std::span<const TensorRef> ExpandedKeys::reserve(const HeadSizes& head, Index heads, Index end) try {
  while (static_cast<Index>(memory_.size()) * kKeyBlock < end) {
    memory_.emplace_back(DType::kF32, Shape{heads, key_block_floats(head)}, device_);
    blocks_.push_back(memory_.back());
  }
  return blocks_;
} catch (const OutOfMemory&) {
  blocks_.clear();
  memory_.clear();
  length_ = 0;
  return {};
}

std::uint64_t ExpandedKeys::bytes(const HeadSizes& head, Index heads, Index positions) {
  return static_cast<std::uint64_t>((positions + kKeyBlock - 1) / kKeyBlock * heads * key_block_floats(head)) *
         sizeof(float);
}

}  // namespace hadal::ops
