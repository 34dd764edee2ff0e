#include "hadal/core/workspace.h"

#include <algorithm>

#include "hadal/core/out_of_memory.h"

namespace hadal {
namespace {

constexpr std::size_t kTensorAlignment = 64;
constexpr std::size_t kSmallestBlock = std::size_t{1} << 20;

}  // namespace

TensorRef Workspace::tensor(DType dtype, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype);
  const std::size_t rounded = (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  while (block_ < blocks_.size() && used_ + rounded > static_cast<std::size_t>(blocks_[block_]->num_bytes())) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size())
    blocks_.emplace_back(
        DType::kU8, Shape{static_cast<Index>(std::max(rounded, std::max(kSmallestBlock, allocated_bytes())))}, memory_);
  auto* begin = static_cast<std::byte*>(blocks_[block_]->raw_on(memory_.device())) + used_;
  used_ += rounded;
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
