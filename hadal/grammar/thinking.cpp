#include "hadal/grammar/thinking.h"

#include <algorithm>

#include "hadal/core/error.h"

namespace hadal::grammar {
namespace {

// The longest end of `tokens` that is the beginning of `tag`.
std::size_t begun(const std::vector<TokenId>& tokens, const std::vector<TokenId>& tag) {
  for (std::size_t n = std::min(tokens.size(), tag.size()); n > 0; --n)
    if (std::equal(tokens.end() - static_cast<std::ptrdiff_t>(n), tokens.end(), tag.begin())) return n;
  return 0;
}

void clear(std::span<std::uint32_t> allowed, TokenId token) {
  const auto word = static_cast<std::size_t>(token / 32);
  if (token >= 0 && word < allowed.size()) allowed[word] &= ~(1u << (token % 32));
}

}  // namespace

BehindThinking::BehindThinking(ThinkingRules rules, std::unique_ptr<TokenConstraint> then)
    : rules_(std::move(rules)), then_(std::move(then)) {
  HADAL_CHECK(!rules_.closing.empty(), "thinking: the model has no tag that closes a thought");
}

bool BehindThinking::mask(std::span<std::uint32_t> allowed) {
  if (!thinking()) return then_ && then_->mask(allowed);
  if (out_of_budget()) {
    const TokenId token = rules_.closing[closed_];
    HADAL_CHECK(token >= 0 && static_cast<std::size_t>(token) < allowed.size() * 32,
                "thinking: the model has no token {}", token);
    std::fill(allowed.begin(), allowed.end(), 0u);
    allowed[static_cast<std::size_t>(token / 32)] = 1u << (token % 32);
    return true;
  }
  for (const TokenId end : rules_.ends) clear(allowed, end);
  return !rules_.ends.empty();
}

void BehindThinking::accept(TokenId token) {
  if (!thinking()) {
    if (then_) then_->accept(token);
    return;
  }
  ++thought_;
  last_.push_back(token);
  if (last_.size() > rules_.closing.size()) last_.erase(last_.begin());
  closed_ = begun(last_, rules_.closing);
}

bool BehindThinking::complete() const {
  return !thinking() && then_ && then_->complete();
}

std::unique_ptr<TokenConstraint> BehindThinking::clone() const {
  auto copy = std::make_unique<BehindThinking>(rules_, then_ ? then_->clone() : nullptr);
  copy->last_ = last_;
  copy->thought_ = thought_;
  copy->closed_ = closed_;
  return copy;
}

}  // namespace hadal::grammar
