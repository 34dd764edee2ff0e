// Token ids as files hold them, in integers of any width, as the ids that everything else computes with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::data {

using TokenId = std::int32_t;

// A target that has no part in the loss, as PyTorch spells it.
inline constexpr TokenId kIgnored = -100;

// The elements of an integer tensor of the host, row by row, whatever its strides. Throws Error, `where`
// ("batch.safetensors: step0.ids") in front, for another dtype and for an id outside [0, vocab_size), naming its place.
std::vector<TokenId> token_ids(const ConstTensorRef& tensor, std::int64_t vocab_size, const std::string& where);

// The same for targets, which may also be kIgnored.
std::vector<TokenId> target_ids(const ConstTensorRef& tensor, std::int64_t vocab_size, const std::string& where);

}  // namespace hadal::data
