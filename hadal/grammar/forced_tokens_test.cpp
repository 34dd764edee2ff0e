#include "hadal/grammar/forced_tokens.h"

#include <gtest/gtest.h>

namespace hadal::grammar {
namespace forced_tokens_test {
namespace {

// Tokens that follow one another: 1, 2, 3, and then the end.
class Counting : public TokenConstraint {
 public:
  bool mask(std::span<std::uint32_t> allowed) override {
    std::fill(allowed.begin(), allowed.end(), 0u);
    allowed[0] = 1u << next_;
    return true;
  }
  void accept(TokenId token) override {
    ASSERT_EQ(token, next_);
    ++next_;
  }
  bool complete() const override { return next_ == 4; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Counting>(*this); }

 private:
  TokenId next_ = 1;
};

std::vector<TokenId> run(TokenConstraint& c, std::size_t most) {
  std::vector<TokenId> taken;
  while (!c.complete() && taken.size() < most) {
    std::vector<std::uint32_t> allowed(2, ~0u);
    TokenId token = 40;  // what the model would say
    if (c.mask(allowed))
      while ((allowed[static_cast<std::size_t>(token / 32)] >> (token % 32) & 1) == 0) token = (token + 1) % 64;
    taken.push_back(token);
    c.accept(token);
  }
  return taken;
}

TEST(ForcedTokens, ComeFirst) {
  ForcedTokens forced({7, 63}, nullptr);
  EXPECT_EQ(run(forced, 4), (std::vector<TokenId>{7, 63, 40, 40}));
  EXPECT_FALSE(forced.complete());
}

TEST(ForcedTokens, TheOtherGoesOnBehindThemIfTheyWereItsOwn) {
  ForcedTokens forced({1, 2}, std::make_unique<Counting>());
  EXPECT_EQ(run(*forced.clone(), 9), (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(run(forced, 9), (std::vector<TokenId>{1, 2, 3}));
  ForcedTokens others({1, 5}, std::make_unique<Counting>());
  EXPECT_EQ(run(others, 4), (std::vector<TokenId>{1, 5, 40, 40}));
}

}  // namespace
}  // namespace forced_tokens_test
}  // namespace hadal::grammar
