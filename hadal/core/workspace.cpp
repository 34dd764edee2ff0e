#include "hadal/core/workspace.h"

#include <algorithm>

#include "hadal/core/out_of_memory.h"

namespace hadal {
namespace {

constexpr std::size_t kTensorAlignment = 64;
constexpr std::size_t kSmallestBlock = std::size_t{1} << 20;

std::size_t rounded_bytes(DType dtype, Index elements) {
  const std::size_t bytes = static_cast<std::size_t>(elements) * dtype_bytes(dtype);
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

}  // namespace

void WorkspaceNeed::tensor(DType dtype, Index elements) {
  held_ += rounded_bytes(dtype, elements);
  most_ = std::max(most_, held_);
}

void Workspace::reserve(std::size_t bytes) {
  if (block_ < blocks_.size() && used_ + bytes <= static_cast<std::size_t>(blocks_[block_]->num_bytes())) return;
  // What lies behind is free, and so is the block that is being filled if nothing is in it.
  if (used_ > 0) ++block_;
  blocks_.resize(std::min(block_, blocks_.size()));
  used_ = 0;
  blocks_.emplace_back(DType::kU8, Shape{static_cast<Index>(std::max(bytes, kSmallestBlock))}, memory_);
}

TensorRef Workspace::tensor(DType dtype, Shape shape) {
  const std::size_t rounded = rounded_bytes(dtype, shape.num_elements());
  while (block_ < blocks_.size() && used_ + rounded > static_cast<std::size_t>(blocks_[block_]->num_bytes())) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size())
    blocks_.emplace_back(
        DType::kU8, Shape{static_cast<Index>(std::max(rounded, std::max(kSmallestBlock, allocated_bytes())))}, memory_);
  auto* begin = static_cast<std::byte*>(blocks_[block_]->raw_on(memory_.device())) + used_;
  used_ += rounded;
  std::size_t in_use = used_;
  for (std::size_t i = 0; i < block_; ++i) in_use += static_cast<std::size_t>(blocks_[i]->num_bytes());
  most_used_ = std::max(most_used_, in_use);
  return TensorRef(begin, dtype, shape, memory_.device());
}

std::size_t Workspace::allocated_bytes() const {
  std::size_t total = 0;
  for (const Tensor& block : blocks_) total += static_cast<std::size_t>(block->num_bytes());
  return total;
}

void Workspace::rewind(std::size_t block, std::size_t used) {
  block_ = block;
  used_ = used;
  // Growth left several blocks behind: once nothing is in use, one block of their size replaces them.
  if (block == 0 && used == 0 && blocks_.size() > 1) {
    const auto total = static_cast<Index>(allocated_bytes());
    blocks_.clear();
    try {
      blocks_.emplace_back(DType::kU8, Shape{total}, memory_);
    } catch (const OutOfMemory&) {
      // Scopes end here, also while an exception is on its way: whoever needs a block next will ask again.
    }
  }
}

}  // namespace hadal
