// Memory for latent caches: pages that hold the entries of 128 tokens, of all layers of a cache, and may belong to
// several caches at once. Within a page a layer's entries lie together, so that a page is what attention reads (a block
// of keys of one layer), and also what sequences share, and what could move elsewhere, as a whole.
#pragma once

#include <cstdint>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/core/tensor.h"
#include "hadal/ops/attention.h"
#include "hadal/ops/latent_entry.h"

namespace hadal::model {

using ops::kPageTokens;  // the block of keys that absorbed attention takes at a time

inline Index pages_for(Index tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

// One thread at a time. Memory grows as pages are first used, and is kept for the next ones.
class PagePool {
 public:
  using PageId = std::int32_t;

  // `dtype` is F32, BF16 or F8_E4M3 (ops/latent_entry.h). `max_pages` 0: as many as there is memory.
  // Pages are on the device of `memory`, which must outlive them.
  PagePool(const config::Config& config, Index layers, DType dtype, Index max_pages = 0,
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

  Index layers() const { return layers_; }
  DType dtype() const { return dtype_; }
  const ops::Fp8Entry& fp8_entry() const { return fp8_entry_; }
  Index available() const;  // pages that take() would give
  Index in_use() const { return static_cast<Index>(pages_.size() - free_.size()); }
  std::uint64_t page_bytes() const;
  std::uint64_t bytes() const { return pages_.size() * page_bytes(); }  // of memory, in use or kept

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
  std::vector<Page> pages_;
  std::vector<PageId> free_;
};

}  // namespace hadal::model
