#include "hadal/model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "hadal/ops/elementwise.h"

namespace hadal::model {
namespace {

constexpr Index kFirstAllocation = 256;  // tokens

}  // namespace

KvCache::KvCache(const Config& config, Index num_layers, Index capacity, DType dtype)
    : width_(config.kv_cache_width()),
      capacity_(capacity),
      dtype_(dtype),
      layers_(static_cast<std::size_t>(num_layers)) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "kv cache: dtype {} is not supported, F32 and BF16 are",
              dtype_name(dtype));
}

std::uint64_t KvCache::allocated_bytes() const {
  return static_cast<std::uint64_t>(allocated_ * width_) * dtype_bytes(dtype_) * layers_.size();
}

void KvCache::reserve(Index count) {
  const Index wanted = length() + count;
  if (wanted > capacity_)
    throw InvalidRequest(fmt::format("context: {} tokens do not fit into a context of {}", wanted, capacity_));
  if (wanted <= allocated_) return;
  const Index grown = std::min(capacity_, std::max({wanted, 2 * allocated_, kFirstAllocation}));
  for (Tensor& layer : layers_) {
    Tensor bigger(dtype_, {grown, width_});
    if (length() > 0)
      std::memcpy(bigger->raw(), layer->raw(), static_cast<std::size_t>(length() * width_) * dtype_bytes(dtype_));
    layer = std::move(bigger);
  }
  allocated_ = grown;
}

void KvCache::write(Context& ctx, Index layer, const TensorRef& entries) {
  ops::from_float(ctx, entries, layers_[static_cast<std::size_t>(layer)]->rows(length(), length() + entries.size(0)));
}

TensorRef KvCache::read(Context& ctx, Index layer, Index count) const {
  const TensorRef stored = layers_[static_cast<std::size_t>(layer)]->rows(0, length() + count);
  if (dtype_ == DType::kF32) return stored;
  const TensorRef copy = ctx.workspace.floats(stored.shape());
  ops::to_float(ctx, stored, copy);
  return copy;
}

void KvCache::truncate(Index length) {
  HADAL_CHECK(length >= 0 && length <= this->length(), "kv cache: cannot cut {} tokens to {}", this->length(), length);
  forms_.resize(static_cast<std::size_t>(length));
}

}  // namespace hadal::model
