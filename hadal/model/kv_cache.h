// The latent cache of one sequence: per layer and token the normalised latent c_kv and the rotated k_pe, kv_lora_rank +
// qk_rope_head_dim values (rule 17), stored in F32, BF16 or FP8 (ops/latent_entry.h). Attention reads entries as
// stored, the current token's own included. Memory comes in pages from a pool, up to the capacity.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/model/page_pool.h"
#include "hadal/ops/latent_attention.h"

namespace hadal::model {

using config::Config;

// Which form of attention computed a token, and with it its cache entries. Prompt tokens are always expanded, generated
// (or drafted) ones always absorbed, whatever the chunk: so bits depend on a token's role, not on scheduling (rule 18).
enum class Form : std::uint8_t { kExpanded, kAbsorbed };

class KvCache {
 public:
  KvCache(std::shared_ptr<PagePool> pool, Index capacity) : pool_(std::move(pool)), capacity_(capacity) {}
  // With a pool of its own.
  KvCache(const config::Config& config, Index num_layers, Index capacity, DType dtype = DType::kF32,
          DeviceMemory& memory = host_memory())
      : KvCache(std::make_shared<PagePool>(config, num_layers, dtype, 0, 0, memory), capacity) {}
  ~KvCache() {
    forget_keys();
    release_from(0);
  }
  KvCache(KvCache&& other) noexcept;
  KvCache& operator=(KvCache&& other) noexcept;

  Index length() const { return static_cast<Index>(forms_.size()); }
  Index capacity() const { return capacity_; }
  const PagePool& pool() const { return *pool_; }
  std::uint64_t allocated_bytes() const { return page_table_.size() * pool_->page_bytes(); }
  const std::vector<Form>& forms() const { return forms_; }

  // Makes room for `count` more tokens. False, with nothing changed, if the pool has not enough pages; throws
  // InvalidRequest beyond the capacity.
  [[nodiscard]] bool try_reserve(Index count);
  // The same, but the lack of pages is an InvalidRequest too.
  void reserve(Index count);
  // Stores the entries [count, kv_lora_rank + rope] of one layer behind the current length, where there is room.
  void write(Context& ctx, Index layer, const ConstTensorRef& entries);
  // Entries [0, length + count) of a layer as they lie in memory, a page at a time: F32 or BF16 [128, width], or U8
  // [128, fp8_entry().bytes()]; the last one is shorter.
  std::vector<ConstTensorRef> pages(Index layer, Index count) const;
  // The same for attention in the expanded form, with the keys and values that are kept of them.
  ops::CachedEntries entries(Index layer, Index count);

  // For a prompt of several passes that ends with `positions` tokens in the cache: keys and values of as many layers as
  // there is memory for are kept from pass to pass, until forget_keys() or truncate().
  void keep_keys(Index positions);
  void forget_keys();
  DType dtype() const { return pool_->dtype(); }
  const ops::Fp8Entry& fp8_entry() const { return pool_->fp8_entry(); }
  // After every layer has written its entries.
  void advance(Index count, Form form) { forms_.insert(forms_.end(), static_cast<std::size_t>(count), form); }
  // Forgets everything from position `length` on: the start of another turn, or rejected drafts. Pages go back.
  void truncate(Index length);
  // Another cache with the first `length` tokens of this one. Pages are shared; one that is shared in part is copied
  // when one of the two is to write into it, but for who made it: what it writes behind is seen by nobody.
  KvCache fork(Index length) const;
  // A reference to the page of tokens [128 i, 128 (i + 1)), of which the first `count` serve somebody else.
  PageRef share(Index page, Index count) const;
  // An empty cache becomes one of pages that others have, too.
  void adopt(std::span<const PageRef> pages, std::span<const Form> forms);
  Index pages_held() const { return static_cast<Index>(page_table_.size()); }
  // Pages that try_reserve(count) would take.
  Index pages_wanted(Index count) const;

 private:
  void release_from(std::size_t page);
  bool must_copy_last_page() const;
  void own_last_page();

  std::shared_ptr<PagePool> pool_;
  Index capacity_;
  std::vector<PagePool::PageId> page_table_;  // of tokens [128 i, 128 (i + 1))
  std::vector<Form> forms_;
  Index made_from_ = 0;                       // the first page that this cache has made; all behind it are, too
  mutable Index shared_until_ = 0;            // no others see tokens from here on
  std::vector<ops::ExpandedKeys> kept_keys_;  // of the first layers
  Index kept_positions_ = 0;                  // what their memory was taken for
};

}  // namespace hadal::model
