// Grammars over a tokenizer's tokens: JSON schemas, regular expressions and Lark grammars as masks, by llguidance
// (llguidance/). Where that could not be built, everything here is an InvalidRequest that says so.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/grammar/token_constraint.h"

namespace hadal::grammar {

struct TokenText {
  std::string_view bytes;  // empty: no token
  bool control = false;    // stands outside of text: no text matches it, grammars name it (see lark.h)
};

struct GrammarText {
  enum class Kind { kJsonSchema, kRegex, kLark };
  Kind kind = Kind::kJsonSchema;
  std::string text;
};

GrammarText any_json_object();
// One of these texts. Throws InvalidRequest if there is none.
GrammarText choice(const std::vector<std::string>& texts);

// Beyond these a grammar is an InvalidRequest.
struct GrammarLimits {
  std::size_t bytes = 256 * 1024;
  std::size_t milliseconds = 5000;  // of compilation
};

class GrammarCompiler {
 public:
  // tokens[i] is token i. ends: the tokens that end an answer, at least one.
  GrammarCompiler(std::span<const TokenText> tokens, std::span<const TokenId> ends, GrammarLimits limits = {});
  ~GrammarCompiler();
  GrammarCompiler(GrammarCompiler&&) noexcept;
  GrammarCompiler& operator=(GrammarCompiler&&) noexcept;

  // Whether this build has llguidance.
  static bool available();

  // Answers that the grammar generates, then an end token. What a schema demands beyond what can be enforced, and what
  // exceeds the limits, is an InvalidRequest that names it. Of an answer in progress, a step that would take more than
  // some 20 ms or its memory is an Error of mask(). The grammars compiled last are remembered. Thread-safe.
  std::unique_ptr<TokenConstraint> compile(const GrammarText& grammar) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::grammar
