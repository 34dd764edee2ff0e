#include "hadal/model/page_pool.h"

#include <algorithm>
#include <limits>

#include "hadal/core/transfer.h"

namespace hadal::model {

KeptKeysMemory::KeptKeysMemory(const config::Config& config, std::uint64_t limit, DeviceMemory& device)
    : head_{config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim},
      heads_(config.num_attention_heads),
      device_(device),
      limit_(limit) {}

Index KeptKeysMemory::take(Index layers, Index positions) {
  const std::uint64_t of_layer = ops::ExpandedKeys::bytes(head_, heads_, positions);
  const Index fit = of_layer == 0 ? 0 : static_cast<Index>((limit_ - taken_) / of_layer);
  const Index taken = std::min(layers, fit);
  taken_ += static_cast<std::uint64_t>(taken) * of_layer;
  return taken;
}

void KeptKeysMemory::give_back(Index layers, Index positions) {
  taken_ -= static_cast<std::uint64_t>(layers) * ops::ExpandedKeys::bytes(head_, heads_, positions);
}

PagePool::PagePool(const config::Config& config, Index layers, DType dtype, Index max_pages, std::uint64_t kept_bytes,
                   DeviceMemory& memory)
    : fp8_entry_{.latent = config.kv_lora_rank, .rope = config.qk_rope_head_dim},
      layers_(layers),
      dtype_(dtype),
      row_size_(dtype == DType::kF8E4M3 ? fp8_entry_.bytes() : config.kv_cache_width()),
      max_pages_(max_pages > 0 ? max_pages : std::numeric_limits<PageId>::max()),
      memory_(memory),
      kept_keys_(config, kept_bytes, memory) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF8E4M3,
              "kv cache: dtype {} is not supported; F32, BF16 and F8_E4M3 are", dtype_name(dtype));
}

std::uint64_t PagePool::page_bytes() const {
  return static_cast<std::uint64_t>(layers_ * kPageTokens * row_size_) * dtype_bytes(dtype_);
}

Index PagePool::available() const {
  return max_pages_ - in_use();
}

PagePool::PageId PagePool::take() {
  HADAL_CHECK(available() > 0, "kv cache: all {} pages of {} tokens are in use", max_pages_, kPageTokens);
  if (free_.empty()) {
    free_.reserve(pages_.size() + 1);  // so that release() never allocates
    pages_.push_back(
        {.memory = Tensor(dtype_ == DType::kF8E4M3 ? DType::kU8 : dtype_, {layers_, kPageTokens, row_size_}, memory_)});
    free_.push_back(static_cast<PageId>(pages_.size()) - 1);
  }
  const PageId page = free_.back();
  free_.pop_back();
  pages_[static_cast<std::size_t>(page)].references = 1;
  return page;
}

void PagePool::copy(PageId from, PageId to, Index tokens) {
  for (Index layer = 0; layer < layers_; ++layer)
    transfer(memory_, entries(from, layer).rows(0, tokens), entries(to, layer).rows(0, tokens));
}

void PagePool::read(PageId page, Index tokens, std::span<std::byte> to) const {
  HADAL_CHECK(to.size() == page_bytes(), "kv cache: a page has {} bytes, not {}", page_bytes(), to.size());
  const std::size_t layer_bytes = to.size() / static_cast<std::size_t>(layers_);
  for (Index layer = 0; layer < layers_; ++layer) {
    const TensorRef from = entries(page, layer).rows(0, tokens);
    const std::span<std::byte> there = to.subspan(static_cast<std::size_t>(layer) * layer_bytes, layer_bytes);
    if (tokens > 0) transfer(memory_, from, TensorRef(there.data(), from.dtype(), from.shape()));
    std::ranges::fill(there.subspan(static_cast<std::size_t>(from.num_bytes())), std::byte{});
  }
}

void PagePool::write(PageId page, std::span<const std::byte> from) {
  HADAL_CHECK(from.size() == page_bytes(), "kv cache: a page has {} bytes, not {}", page_bytes(), from.size());
  const TensorRef to = pages_[static_cast<std::size_t>(page)].memory.ref();
  transfer(memory_, ConstTensorRef(from.data(), to.dtype(), to.shape()), to);
}

void PagePool::retain(PageId page) {
  ++pages_[static_cast<std::size_t>(page)].references;
}

void PagePool::release(PageId page) {
  if (--pages_[static_cast<std::size_t>(page)].references == 0) free_.push_back(page);
}

}  // namespace hadal::model
