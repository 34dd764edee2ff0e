#include "hadal/model/kv_cache.h"

#include <algorithm>
#include <utility>

#include "hadal/ops/elementwise.h"

namespace hadal::model {

KvCache::KvCache(KvCache&& other) noexcept
    : pool_(other.pool_),
      capacity_(other.capacity_),
      page_table_(std::exchange(other.page_table_, {})),
      forms_(std::exchange(other.forms_, {})),
      made_from_(std::exchange(other.made_from_, 0)),
      shared_until_(std::exchange(other.shared_until_, 0)),
      kept_keys_(std::exchange(other.kept_keys_, {})),
      kept_positions_(std::exchange(other.kept_positions_, 0)) {}

KvCache& KvCache::operator=(KvCache&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(capacity_, other.capacity_);
  std::swap(page_table_, other.page_table_);
  std::swap(forms_, other.forms_);
  std::swap(made_from_, other.made_from_);
  std::swap(shared_until_, other.shared_until_);
  std::swap(kept_keys_, other.kept_keys_);
  std::swap(kept_positions_, other.kept_positions_);
  return *this;
}

void KvCache::release_from(std::size_t page) {
  for (std::size_t i = page; i < page_table_.size(); ++i) pool_->release(page_table_[i]);
  page_table_.resize(std::min(page, page_table_.size()));
}

bool KvCache::must_copy_last_page() const {
  if (length() % kPageTokens == 0) return false;
  const Index page = length() / kPageTokens;
  if (pool_->references(page_table_[static_cast<std::size_t>(page)]) == 1) return false;
  return page < made_from_ || length() < shared_until_;
}

Index KvCache::pages_wanted(Index count) const {
  return std::max<Index>(pages_for(length() + count) - pages_held(), 0) + must_copy_last_page();
}

bool KvCache::try_reserve(Index count) {
  const Index wanted = length() + count;
  if (wanted > capacity_)
    throw InvalidRequest(fmt::format("context: {} tokens do not fit into a context of {}", wanted, capacity_));
  if (pages_wanted(count) > pool_->available()) return false;
  if (must_copy_last_page()) own_last_page();
  page_table_.reserve(static_cast<std::size_t>(pages_for(wanted)));
  while (static_cast<Index>(page_table_.size()) < pages_for(wanted)) page_table_.push_back(pool_->take());
  return true;
}

void KvCache::reserve(Index count) {
  if (!try_reserve(count))
    throw InvalidRequest(fmt::format("memory: the cache has no room for {} more tokens, {} pages of {} are in use",
                                     count, pool_->in_use(), kPageTokens));
}

// What is written behind the length must not be seen by those who share the page.
void KvCache::own_last_page() {
  PagePool::PageId& page = page_table_[static_cast<std::size_t>(length() / kPageTokens)];
  const PagePool::PageId copy = pool_->take();
  pool_->copy(page, copy, length() % kPageTokens);
  pool_->release(std::exchange(page, copy));
  made_from_ = std::min(made_from_, length() / kPageTokens);
}

void KvCache::write(Context& ctx, Index layer, const ConstTensorRef& entries) {
  for (Index begin = 0, end = 0; begin < entries.size(0); begin = end) {
    const Index row = (length() + begin) % kPageTokens;
    end = std::min(entries.size(0), begin + kPageTokens - row);
    const PagePool::PageId page = page_table_[static_cast<std::size_t>((length() + begin) / kPageTokens)];
    const ConstTensorRef from = entries.rows(begin, end);
    const TensorRef to = pool_->entries(page, layer).rows(row, row + end - begin);
    if (dtype() == DType::kF8E4M3)
      ops::pack_entries(ctx, fp8_entry(), from, to);
    else
      ops::from_float(ctx, from, to);
  }
}

std::vector<ConstTensorRef> KvCache::pages(Index layer, Index count) const {
  std::vector<ConstTensorRef> pages;
  const Index tokens = length() + count;
  for (Index begin = 0; begin < tokens; begin += kPageTokens)
    pages.push_back(pool_->entries(page_table_[static_cast<std::size_t>(begin / kPageTokens)], layer)
                        .rows(0, std::min(kPageTokens, tokens - begin)));
  return pages;
}

ops::CachedEntries KvCache::entries(Index layer, Index count) {
  const auto i = static_cast<std::size_t>(layer);
  return {pages(layer, count), fp8_entry(), i < kept_keys_.size() ? &kept_keys_[i] : nullptr};
}

void KvCache::keep_keys(Index positions) {
  if (positions <= kept_positions_) return;
  forget_keys();
  KeptKeysMemory& memory = pool_->kept_keys();
  for (Index layers = memory.take(pool_->layers(), positions); layers > 0; --layers)
    kept_keys_.emplace_back(memory.device());
  kept_positions_ = positions;
}

void KvCache::forget_keys() {
  if (kept_positions_ == 0) return;
  pool_->kept_keys().give_back(static_cast<Index>(kept_keys_.size()), kept_positions_);
  kept_keys_.clear();
  kept_positions_ = 0;
}

void KvCache::truncate(Index length) {
  HADAL_CHECK(length >= 0 && length <= this->length(), "kv cache: cannot cut {} tokens to {}", this->length(), length);
  forms_.resize(static_cast<std::size_t>(length));
  forget_keys();
  release_from(static_cast<std::size_t>(pages_for(length)));
  made_from_ = std::min(made_from_, pages_held());
}

KvCache KvCache::fork(Index length) const {
  HADAL_CHECK(length >= 0 && length <= this->length(), "kv cache: cannot share {} tokens of {}", length,
              this->length());
  KvCache copy(pool_, capacity_);
  copy.forms_.assign(forms_.begin(), forms_.begin() + length);
  copy.page_table_.reserve(static_cast<std::size_t>(pages_for(length)));
  for (Index i = 0; i < pages_for(length); ++i) {
    copy.page_table_.push_back(page_table_[static_cast<std::size_t>(i)]);
    pool_->retain(copy.page_table_.back());
  }
  copy.made_from_ = copy.pages_held();
  shared_until_ = std::max(shared_until_, length);
  return copy;
}

PageRef KvCache::share(Index page, Index count) const {
  const Index end = page * kPageTokens + count;
  HADAL_CHECK(count <= kPageTokens && end <= length(), "kv cache: cannot share {} tokens of {}", end, length());
  shared_until_ = std::max(shared_until_, end);
  return {pool_, page_table_[static_cast<std::size_t>(page)]};
}

void KvCache::adopt(std::span<const PageRef> pages, std::span<const Form> forms) {
  HADAL_CHECK(length() == 0 && static_cast<Index>(pages.size()) == pages_for(static_cast<Index>(forms.size())),
              "kv cache: {} pages for {} tokens behind {}", pages.size(), forms.size(), length());
  release_from(0);
  for (const PageRef& page : pages) {
    page_table_.push_back(page.id());
    pool_->retain(page.id());
  }
  forms_.assign(forms.begin(), forms.end());
  made_from_ = pages_held();
  shared_until_ = length();
}

}  // namespace hadal::model
