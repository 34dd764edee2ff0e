// Answers that begin in a thought: a constraint of the answer proper starts behind the closing tag, and a thought may
// have a budget, after which the tag is forced.
#pragma once

#include <optional>
#include <vector>

#include "hadal/grammar/token_constraint.h"

namespace hadal::grammar {

struct ThinkingRules {
  std::vector<TokenId> closing;       // the tag's tokens, at least one; usually `</think>` is one token
  std::vector<TokenId> ends;          // those that end an answer: none within the thought, an answer is to follow
  std::optional<std::size_t> budget;  // tokens of thought, the closing tag not counted; 0: none at all
};

// A constraint that waits until the thought is closed.
class BehindThinking : public TokenConstraint {
 public:
  // `then` begins with the token behind the closing tag; may be nullptr.
  BehindThinking(ThinkingRules rules, std::unique_ptr<TokenConstraint> then);

  bool mask(std::span<std::uint32_t> allowed) override;
  void accept(TokenId token) override;
  bool complete() const override;
  std::unique_ptr<TokenConstraint> clone() const override;

  bool thinking() const { return closed_ < rules_.closing.size(); }

 private:
  bool out_of_budget() const { return rules_.budget && thought_ >= *rules_.budget; }

  ThinkingRules rules_;
  std::unique_ptr<TokenConstraint> then_;
  std::vector<TokenId> last_;  // as many tokens of the thought as may be the tag's beginning
  std::size_t thought_ = 0;
  std::size_t closed_ = 0;  // how many tokens of the tag are there
};

}  // namespace hadal::grammar
