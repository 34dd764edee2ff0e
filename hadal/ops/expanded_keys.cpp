#include "hadal/ops/expanded_keys.h"

#include <algorithm>

#include "hadal/core/out_of_memory.h"

namespace hadal::ops {
namespace {

// Memory comes in pieces of about this size, which may lie on huge pages.
constexpr Index kKeptPieceBytes = Index{8} << 20;

Index block_bytes(const HeadSizes& head, Index heads) {
  return heads * key_block_floats(head) * static_cast<Index>(sizeof(float));
}

Index piece_blocks(const HeadSizes& head, Index heads) {
  return std::max<Index>(1, kKeptPieceBytes / std::max<Index>(1, block_bytes(head, heads)));
}

}  // namespace

std::span<const TensorRef> ExpandedKeys::reserve(const HeadSizes& head, Index heads, Index end) try {
  while (static_cast<Index>(blocks_.size()) * kKeyBlock < end) {
    const Index count = piece_blocks(head, heads);
    memory_.emplace_back(DType::kF32, Shape{count, heads, key_block_floats(head)}, device_);
    for (Index i = 0; i < count; ++i) blocks_.push_back(memory_.back().ref()[i]);
  }
  return blocks_;
} catch (const OutOfMemory&) {
  blocks_.clear();
  memory_.clear();
  length_ = 0;
  return {};
}

std::uint64_t ExpandedKeys::bytes(const HeadSizes& head, Index heads, Index positions) {
  const Index of_piece = piece_blocks(head, heads), blocks = (positions + kKeyBlock - 1) / kKeyBlock;
  return static_cast<std::uint64_t>((blocks + of_piece - 1) / of_piece * of_piece * block_bytes(head, heads));
}

}  // namespace hadal::ops
