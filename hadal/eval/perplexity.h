// How well a model predicts a text: nats a token and bits a byte; and how far one way of computing it is from another.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "hadal/model/transformer.h"

namespace hadal::eval {

// What the bits of a run depend on, beside the model.
struct Mode {
  Isa isa = best_isa();
  Activations activations = Activations::kF32;
  DType cache_dtype = DType::kF32;
};

struct PerplexityOptions {
  Index context = 512;  // a window: BOS and context - 1 tokens
  Index stride = 0;  // tokens a window advances by; only its last `stride` tokens are scored. 0: windows do not overlap
  config::TokenId bos = 0;
  DType cache_dtype = DType::kF32;
  std::optional<Mode> reference = std::nullopt;  // the same windows are run this way too, and compared
};

struct PerplexityResult {
  double nats = 0;
  Index tokens = 0;
  // Against the reference, if there is one, over all tokens.
  double divergence = 0;  // in nats
  Index agreeing = 0;     // positions whose most probable token is the reference's

  double nats_per_token() const { return per_token(nats); }
  double bits_per_byte(std::size_t bytes) const;
  double divergence_per_token() const { return per_token(divergence); }
  double agreement() const { return per_token(static_cast<double>(agreeing)); }

 private:
  double per_token(double x) const { return tokens ? x / static_cast<double>(tokens) : 0; }
};

// KL(reference || other) in nats, of the softmax of two rows of logits as long as each other: not negative, 0 of a row
// against itself.
double kl_divergence(std::span<const float> reference, std::span<const float> other);

// Every token is scored once. `progress` is told the tokens done.
PerplexityResult perplexity(Context& ctx, const model::Transformer& transformer, std::span<const config::TokenId> ids,
                            const PerplexityOptions& options, const std::function<void(Index)>& progress = {});

}  // namespace hadal::eval
