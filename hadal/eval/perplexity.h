// How well a model predicts a text: nats a token and bits a byte.
#pragma once

#include <functional>
#include <span>

#include "hadal/model/transformer.h"

namespace hadal::eval {

struct PerplexityOptions {
  Index context = 512;  // a window: BOS and context - 1 tokens
  Index stride = 0;  // tokens a window advances by; only its last `stride` tokens are scored. 0: windows do not overlap
  model::TokenId bos = 0;
  DType cache_dtype = DType::kF32;
};

struct PerplexityResult {
  double nats = 0;
  Index tokens = 0;
  double nats_per_token() const { return tokens ? nats / static_cast<double>(tokens) : 0; }
  double bits_per_byte(std::size_t bytes) const;
};

// Every token is scored once. `progress` is told the tokens done.
PerplexityResult perplexity(Context& ctx, const model::Transformer& transformer, std::span<const model::TokenId> ids,
                            const PerplexityOptions& options, const std::function<void(Index)>& progress = {});

}  // namespace hadal::eval
