#include "hadal/grammar/thinking.h"

#include <gtest/gtest.h>

#include "hadal/grammar/forced_tokens.h"

namespace hadal::grammar {
namespace thinking_test {
namespace {

constexpr TokenId kEnd = 1, kClose = 40, kClose2 = 41;

// Only token 5, twice.
class Fives : public TokenConstraint {
 public:
  bool mask(std::span<std::uint32_t> allowed) override {
    std::fill(allowed.begin(), allowed.end(), 0u);
    allowed[0] = 1u << 5;
    return true;
  }
  void accept(TokenId token) override {
    ASSERT_EQ(token, 5);
    ++count_;
  }
  bool complete() const override { return count_ == 2; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Fives>(*this); }

 private:
  int count_ = 0;
};

// The first token of `wanted` that is allowed at each step, or the lowest allowed one behind them.
std::vector<TokenId> run(TokenConstraint& c, std::vector<TokenId> wanted, std::size_t most = 8) {
  std::vector<TokenId> taken;
  while (!c.complete() && taken.size() < most) {
    std::vector<std::uint32_t> allowed(2, ~0u);
    TokenId token = taken.size() < wanted.size() ? wanted[taken.size()] : 3;
    if (c.mask(allowed))
      while ((allowed[static_cast<std::size_t>(token / 32)] >> (token % 32) & 1) == 0) token = (token + 1) % 64;
    taken.push_back(token);
    c.accept(token);
  }
  return taken;
}

TEST(BehindThinking, TheAnswerIsConstrainedBehindTheTag) {
  BehindThinking c({{kClose}, {kEnd}, {}}, std::make_unique<Fives>());
  EXPECT_EQ(run(*c.clone(), {7, kEnd, kClose, 9}), (std::vector<TokenId>{7, 2, kClose, 5, 5})) << "no end in a thought";
  EXPECT_EQ(run(c, {kClose}), (std::vector<TokenId>{kClose, 5, 5})) << "an empty thought";
}

TEST(BehindThinking, ATagOfSeveralTokensCountsWhenItIsWhole) {
  BehindThinking c({{kClose, kClose2}, {}, {}}, std::make_unique<Fives>());
  EXPECT_EQ(run(c, {kClose, 3, kClose2, kClose, kClose, kClose2, 3}),
            (std::vector<TokenId>{kClose, 3, kClose2, kClose, kClose, kClose2, 5, 5}));
}

TEST(BehindThinking, AtTheEndOfTheBudgetTheTagIsForcedAndAnAnswerFollows) {
  BehindThinking c({{kClose, kClose2}, {kEnd}, 2}, nullptr);
  EXPECT_EQ(run(*c.clone(), {8, 9, 10, 11, 12, kEnd}, 6), (std::vector<TokenId>{8, 9, kClose, kClose2, 12, kEnd}));
  EXPECT_EQ(run(*c.clone(), {8, kClose}, 5), (std::vector<TokenId>{8, kClose, kClose2, 3, 3}))
      << "a tag that has begun goes on";
  BehindThinking none({{kClose}, {kEnd}, 0}, std::make_unique<Fives>());
  EXPECT_EQ(run(none, {8, 9}), (std::vector<TokenId>{kClose, 5, 5}));
}

TEST(BehindThinking, GoesWithForcedTokens) {
  ForcedTokens c({8, kClose, 5},
                 std::make_unique<BehindThinking>(ThinkingRules{{kClose}, {kEnd}, 4}, std::make_unique<Fives>()));
  EXPECT_EQ(run(c, {}), (std::vector<TokenId>{8, kClose, 5, 5}));
}

}  // namespace
}  // namespace thinking_test
}  // namespace hadal::grammar
