// All that a request demands of its answer's tokens, as one constraint.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "hadal/chat/answer_parser.h"
#include "hadal/chat/guided.h"
#include "hadal/chat/tools.h"
#include "hadal/grammar/structured.h"
#include "hadal/grammar/token_constraint.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::chat {

// The tokenizer's vocabulary for grammars; added tokens are control tokens. Takes a second; made once for a model.
// ends: the tokens that end an answer.
grammar::GrammarCompiler make_compiler(const tokenizer::Tokenizer& tokenizer, std::span<const tokenizer::TokenId> ends);

// What an answer may be in the style of this model: text, or calls of these tools, as `tools` says. Arguments match the
// schemas of strict tools, and of others if a call is required and their schema can be enforced (`all_schemas`).
// content: what the text must be where an answer is no call. Nothing if all is allowed. Throws InvalidRequest.
std::optional<grammar::GrammarText> tool_grammar(const AnswerFormat& format, const ToolRequest& tools,
                                                 const grammar::GrammarText* content, bool all_schemas);

struct ConstraintRequest {
  ToolRequest tools = {};
  std::optional<GuidedOutput> guided = {};
  bool thinking_open = false;              // the prompt ended within a thought
  std::optional<std::size_t> budget = {};  // ThinkingSwitches::budget_of
  std::vector<tokenizer::TokenId> force_tokens = {};
};

// nullptr if nothing is demanded. compiler: nullptr if it cannot be had (no tokenizer; without llguidance it can, and
// says so). Grammars begin behind the thought. Throws BadParameter for guided output and tools that cannot be enforced.
std::unique_ptr<grammar::TokenConstraint> make_constraint(const ConstraintRequest& request, const AnswerFormat& format,
                                                          const tokenizer::Tokenizer& tokenizer,
                                                          std::span<const tokenizer::TokenId> ends,
                                                          const grammar::GrammarCompiler* compiler);

}  // namespace hadal::chat
