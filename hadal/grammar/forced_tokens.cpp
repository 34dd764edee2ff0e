#include "hadal/grammar/forced_tokens.h"

#include <algorithm>

#include "hadal/core/error.h"

namespace hadal::grammar {
namespace {

bool allows(std::span<const std::uint32_t> allowed, TokenId token) {
  return (allowed[static_cast<std::size_t>(token / 32)] >> (token % 32) & 1) != 0;
}

}  // namespace

ForcedTokens::ForcedTokens(std::vector<TokenId> tokens, std::unique_ptr<TokenConstraint> then)
    : tokens_(std::move(tokens)), then_(std::move(then)) {}

bool ForcedTokens::mask(std::span<std::uint32_t> allowed) {
  if (next_ == tokens_.size()) return then_ && then_->mask(allowed);
  const TokenId token = tokens_[next_];
  HADAL_CHECK(token >= 0 && token < static_cast<TokenId>(allowed.size() * 32), "force_tokens: there is no token {}",
              token);
  if (then_ && !then_->complete()) {
    if (then_->mask(allowed) && !allows(allowed, token)) then_.reset();
  } else {
    then_.reset();
  }
  std::fill(allowed.begin(), allowed.end(), 0u);
  allowed[static_cast<std::size_t>(token / 32)] = 1u << (token % 32);
  return true;
}

void ForcedTokens::accept(TokenId token) {
  if (next_ < tokens_.size()) ++next_;
  if (then_) then_->accept(token);
}

bool ForcedTokens::complete() const {
  return next_ == tokens_.size() && then_ && then_->complete();
}

std::unique_ptr<TokenConstraint> ForcedTokens::clone() const {
  auto copy = std::make_unique<ForcedTokens>(tokens_, then_ ? then_->clone() : nullptr);
  copy->next_ = next_;
  return copy;
}

}  // namespace hadal::grammar
