// Memory for latent caches: pages that hold the entries of 128 tokens, of all layers of a cache, and may belong to
// several caches at once. Within a page a layer's entries lie together, so that a page is what attention reads (a block
// of keys of one layer), and also what sequences share, and what could move elsewhere, as a whole.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/core/tensor.h"
#include "hadal/ops/expanded_keys.h"
#include "hadal/ops/latent_entry.h"

namespace hadal::model {

using ops::kPageTokens;  // the block of keys that absorbed attention takes at a time

inline Index pages_for(Index tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

// Memory for what prompts that run in chunks keep of their attention (ops/expanded_keys.h), within a limit that all
// sequences share.
class KeptKeysMemory {
 public:
  // `device` must outlive what is kept.
  KeptKeysMemory(const config::Config& config, std::uint64_t limit, DeviceMemory& device = host_memory());

  // As many layers, of at most `layers`, as there is room for at `positions` positions each; that room is taken.
  Index take(Index layers, Index positions);
  void give_back(Index layers, Index positions);
  DeviceMemory& device() const { return device_; }
  std::uint64_t taken() const { return taken_; }  // bytes, whether used already or not

 private:
  ops::HeadSizes head_;
  Index heads_;
  DeviceMemory& device_;
  std::uint64_t limit_, taken_ = 0;
};

// One thread at a time. Memory grows as pages are first used, and is kept for the next ones.
class PagePool {
 public:
  using PageId = std::int32_t;

  // `dtype` is F32, BF16 or F8_E4M3 (ops/latent_entry.h). `max_pages` 0: as many as there is memory. `kept_bytes`: what
  // prompts may keep beside them. All is on the device of `memory`, which must outlive it.
  PagePool(const config::Config& config, Index layers, DType dtype, Index max_pages = 0, std::uint64_t kept_bytes = 0,
           DeviceMemory& memory = host_memory());

  // A page with one reference. Ask available() first: throws Error if there is none.
  PageId take();
  void retain(PageId page);
  void release(PageId page);  // the last reference gives the page back
  int references(PageId page) const { return pages_[static_cast<std::size_t>(page)].references; }

  // The entries of one layer: F32 or BF16 [128, width], or U8 [128, fp8_entry().bytes()].
  TensorRef entries(PageId page, Index layer) const {
    return pages_[static_cast<std::size_t>(page)].memory.ref()[layer];
  }

  // The first `tokens` entries of every layer.
  void copy(PageId from, PageId to, Index tokens);
  // The same to and from the host's memory, page_bytes() of it; read() leaves zeros behind them.
  void read(PageId page, Index tokens, std::span<std::byte> to) const;
  void write(PageId page, std::span<const std::byte> from);

  Index layers() const { return layers_; }
  DType dtype() const { return dtype_; }
  const ops::Fp8Entry& fp8_entry() const { return fp8_entry_; }
  Index available() const;  // pages that take() would give
  Index in_use() const { return static_cast<Index>(pages_.size() - free_.size()); }
  std::uint64_t page_bytes() const;
  KeptKeysMemory& kept_keys() { return kept_keys_; }
  // Of memory, in use or kept for later, and what prompts keep.
  std::uint64_t bytes() const { return pages_.size() * page_bytes() + kept_keys_.taken(); }

 private:
  struct Page {
    Tensor memory;  // [layers, 128, row_size]
    int references = 0;
  };

  ops::Fp8Entry fp8_entry_;
  Index layers_;
  DType dtype_;
  Index row_size_;  // elements of a stored entry: values, or bytes in FP8
  Index max_pages_;
  DeviceMemory& memory_;
  KeptKeysMemory kept_keys_;
  std::vector<Page> pages_;
  std::vector<PageId> free_;
};

// One of the references to a page, or none.
class PageRef {
 public:
  PageRef() = default;
  PageRef(std::shared_ptr<PagePool> pool, PagePool::PageId page) : pool_(std::move(pool)), page_(page) {
    pool_->retain(page_);
  }
  PageRef(const PageRef& other) : pool_(other.pool_), page_(other.page_) {
    if (pool_) pool_->retain(page_);
  }
  PageRef(PageRef&& other) noexcept : pool_(std::move(other.pool_)), page_(other.page_) {}
  PageRef& operator=(PageRef other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(page_, other.page_);
    return *this;
  }
  ~PageRef() {
    if (pool_) pool_->release(page_);
  }

  explicit operator bool() const { return pool_ != nullptr; }
  PagePool::PageId id() const { return page_; }
  bool shared() const { return pool_->references(page_) > 1; }

 private:
  std::shared_ptr<PagePool> pool_;
  PagePool::PageId page_ = 0;
};

}  // namespace hadal::model
