// Tokens that never come: those that would begin what the request does not want.
#pragma once

#include <vector>

#include "hadal/grammar/token_constraint.h"

namespace hadal::grammar {

class ForbiddenTokens : public TokenConstraint {
 public:
  explicit ForbiddenTokens(std::vector<TokenId> tokens) : tokens_(std::move(tokens)) {}

  bool mask(std::span<std::uint32_t> allowed) override {
    for (const TokenId token : tokens_)
      if (token >= 0 && static_cast<std::size_t>(token / 32) < allowed.size())
        allowed[static_cast<std::size_t>(token / 32)] &= ~(1u << (token % 32));
    return !tokens_.empty();
  }
  void accept(TokenId) override {}
  bool complete() const override { return false; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<ForbiddenTokens>(tokens_); }

 private:
  std::vector<TokenId> tokens_;
};

}  // namespace hadal::grammar
