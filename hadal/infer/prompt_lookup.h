// Drafts without a model: what followed the last time that the text ended as it ends now. Answers that quote their
// prompt (code to be changed, summaries, tool results) repeat long stretches of it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/core/tensor.h"

namespace hadal::infer {

using config::TokenId;

// Of one sequence.
class PromptLookup {
 public:
  // Stretches of kLeast to kMost tokens are looked for, longer ones first.
  static constexpr Index kLeast = 3, kMost = 5;

  // `ids` begin with those of the call before; the new ones are learnt. Cheap for each token.
  void learn(std::span<const TokenId> ids);
  // At most `most` tokens that followed the latest earlier place like the end of `ids`, which are those learnt last.
  std::vector<TokenId> draft(std::span<const TokenId> ids, Index most) const;
  void clear();

 private:
  // Where the latest stretch with this hash ends; of stretches that something follows.
  using Ends = std::unordered_map<std::uint64_t, Index>;

  std::array<Ends, kMost - kLeast + 1> ends_;
  Index learnt_ = 0;  // tokens
};

}  // namespace hadal::infer
