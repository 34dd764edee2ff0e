#include "hadal/model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "hadal/ops/elementwise.h"

namespace hadal::model {
namespace {

constexpr Index kFirstAllocation = 256;  // tokens

}  // namespace

KvCache::KvCache(const Config& config, Index num_layers, Index capacity, DType dtype)
    : fp8_entry_{.latent = config.kv_lora_rank, .rope = config.qk_rope_head_dim},
      capacity_(capacity),
      dtype_(dtype),
      row_size_(dtype == DType::kF8E4M3 ? fp8_entry_.bytes() : config.kv_cache_width()),
      layers_(static_cast<std::size_t>(num_layers)) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF8E4M3,
              "kv cache: dtype {} is not supported; F32, BF16 and F8_E4M3 are", dtype_name(dtype));
}

std::uint64_t KvCache::allocated_bytes() const {
  return static_cast<std::uint64_t>(allocated_ * row_size_) * dtype_bytes(dtype_) * layers_.size();
}

void KvCache::reserve(Index count) {
  const Index wanted = length() + count;
  if (wanted > capacity_)
    throw InvalidRequest(fmt::format("context: {} tokens do not fit into a context of {}", wanted, capacity_));
  if (wanted <= allocated_) return;
  const Index grown = std::min(capacity_, std::max({wanted, 2 * allocated_, kFirstAllocation}));
  for (Tensor& layer : layers_) {
    Tensor bigger(dtype_ == DType::kF8E4M3 ? DType::kU8 : dtype_, {grown, row_size_});
    if (length() > 0)
      std::memcpy(bigger->raw(), layer->raw(), static_cast<std::size_t>(layer->rows(0, length()).num_bytes()));
    layer = std::move(bigger);
  }
  allocated_ = grown;
}

void KvCache::write(Context& ctx, Index layer, const TensorRef& entries) {
  const TensorRef to = layers_[static_cast<std::size_t>(layer)]->rows(length(), length() + entries.size(0));
  if (dtype_ == DType::kF8E4M3)
    ops::pack_entries(ctx, fp8_entry_, entries, to);
  else
    ops::from_float(ctx, entries, to);
}

TensorRef KvCache::stored(Index layer, Index count) const {
  return layers_[static_cast<std::size_t>(layer)]->rows(0, length() + count);
}

TensorRef KvCache::read(Context& ctx, Index layer, Index count) const {
  const TensorRef from = stored(layer, count);
  if (dtype_ == DType::kF32) return from;
  const TensorRef copy = ctx.workspace.floats({from.size(0), fp8_entry_.latent + fp8_entry_.rope});
  if (dtype_ == DType::kF8E4M3)
    ops::unpack_entries(ctx, fp8_entry_, from, copy);
  else
    ops::to_float(ctx, from, copy);
  return copy;
}

void KvCache::truncate(Index length) {
  HADAL_CHECK(length >= 0 && length <= this->length(), "kv cache: cannot cut {} tokens to {}", this->length(), length);
  forms_.resize(static_cast<std::size_t>(length));
}

}  // namespace hadal::model
