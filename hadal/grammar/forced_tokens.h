// Given tokens first, whatever the model would rather say: so that tests reach paths (tool calls, thinking) that a
// small model would not take.
#pragma once

#include <vector>

#include "hadal/grammar/token_constraint.h"

namespace hadal::grammar {

class ForcedTokens : public TokenConstraint {
 public:
  // Behind them, and of them too, `then` is told; it may be nullptr. It need not allow them: once it has to end, or a
  // token was not one of its own, it is asked no more.
  ForcedTokens(std::vector<TokenId> tokens, std::unique_ptr<TokenConstraint> then);

  bool mask(std::span<std::uint32_t> allowed) override;
  void accept(TokenId token) override;
  bool complete() const override;
  std::unique_ptr<TokenConstraint> clone() const override;

 private:
  std::vector<TokenId> tokens_;
  std::size_t next_ = 0;
  std::unique_ptr<TokenConstraint> then_;
};

}  // namespace hadal::grammar
