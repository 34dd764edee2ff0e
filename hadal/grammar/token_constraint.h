// What an answer's next token may be: a grammar, the end of a thinking budget, tokens that a test forces. The engine
// asks between the tokens; whoever makes one knows the tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace hadal::grammar {

using TokenId = std::int32_t;

// Of one answer, in the order of its tokens. One thread at a time, but not always the same: a mask is made while the
// pass runs whose logits it is for.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Clears the bits of tokens that may not come next: bit i % 32 of allowed[i / 32] is token i's. All are set before.
  // False, with `allowed` as it was, if any token may come. At least one bit stays.
  virtual bool mask(std::span<std::uint32_t> allowed) = 0;
  // The next token, one that the mask allows.
  virtual void accept(TokenId token) = 0;
  // Whether the answer has to end here: nothing may come, not even an end token.
  virtual bool complete() const = 0;
  // Another one in the same state, for another answer.
  virtual std::unique_ptr<TokenConstraint> clone() const = 0;
};

}  // namespace hadal::grammar
