// Host memory for many tensors that live equally long: one block, cut from its beginning on, so that tensors made one
// after the other lie one behind the other (as long as their sizes are whole cache lines), on few pages.
#pragma once

#include "hadal/core/tensor.h"

namespace hadal {

class ArenaMemory : public DeviceMemory {
 public:
  // Room for `bytes`, each tensor's rounded up by `rounded`.
  explicit ArenaMemory(std::size_t bytes) : block_(DType::kU8, {static_cast<Index>(bytes)}) {}
  static std::size_t rounded(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

  Device device() const override { return {}; }
  void* allocate(std::size_t bytes) override {
    const std::size_t begin = used_;
    HADAL_CHECK(begin + rounded(bytes) <= static_cast<std::size_t>(block_->num_bytes()),
                "arena: {} bytes are asked for behind {} of {}", bytes, begin, block_->num_bytes());
    used_ = begin + rounded(bytes);
    return block_->data<std::uint8_t>() + begin;
  }
  void free(void*) noexcept override {}  // with the block
  void copy_from_host(void* to, const void* from, std::size_t n) override { host_memory().copy_from_host(to, from, n); }
  void copy_to_host(void* to, const void* from, std::size_t n) override { host_memory().copy_to_host(to, from, n); }
  void copy_within(void* to, const void* from, std::size_t n) override { host_memory().copy_within(to, from, n); }

  const Tensor& block() const { return block_; }

 private:
  Tensor block_;
  std::size_t used_ = 0;
};

}  // namespace hadal
