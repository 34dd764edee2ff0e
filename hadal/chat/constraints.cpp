#include "hadal/chat/constraints.h"

#include <algorithm>

#include "hadal/chat/bad_parameter.h"
#include "hadal/grammar/forbidden_tokens.h"
#include "hadal/grammar/forced_tokens.h"
#include "hadal/grammar/thinking.h"

namespace hadal::chat {
namespace {

using grammar::GrammarText;
using grammar::TokenConstraint;
using tokenizer::TokenId;
using Constraint = std::unique_ptr<TokenConstraint>;

Constraint compile(const grammar::GrammarCompiler* compiler, const GrammarText& text, const std::string& param) {
  if (!compiler) throw BadParameter(param, "this model has no tokenizer, grammars cannot be had");
  try {
    return compiler->compile(text);
  } catch (const BadParameter&) {
    throw;
  } catch (const InvalidRequest& e) {
    throw BadParameter(param, e.what());
  }
}

// Control tokens with which tool calls begin.
std::vector<TokenId> call_tokens(const AnswerFormat& format) {
  std::vector<TokenId> out;
  const ToolMarkers& m = tool_markers(format.markup.tools);
  for (const std::string& marker : {m.section_begin, m.call_begin})
    for (const grammar::Piece& piece : format.alphabet.pieces(marker))
      if (piece.token >= 0) out.push_back(piece.token);
  return out;
}

// A control token is no text, and a grammar of text would not see it come.
void check_markers(const GuidedOutput& guided, const AnswerFormat& format) {
  for (const std::string& marker : guided.markers)
    for (const grammar::Piece& piece : format.alphabet.pieces(marker))
      if (piece.token >= 0)
        throw BadParameter(guided.param,
                           "has \"" + marker +
                               "\", in which this model has a control token; strict tools hold calls to their schemas");
}

Constraint answer_proper(const ConstraintRequest& request, const AnswerFormat& format,
                         const grammar::GrammarCompiler* compiler) {
  const ToolRequest& tools = request.tools;
  const GrammarText* content = request.guided ? &request.guided->grammar : nullptr;
  const bool required = tools.choice == ToolChoice::kRequired || tools.choice == ToolChoice::kNamed;
  if (request.guided) check_markers(*request.guided, format);
  // The content by itself first, so that its faults are told by its own name.
  if (content && !required) {
    Constraint alone = compile(compiler, *content, request.guided->param);
    if (!tools.may_call()) return alone;
  }
  if (!tools.may_call()) {
    if (tools.tools.empty() || call_tokens(format).empty()) return nullptr;
    return std::make_unique<grammar::ForbiddenTokens>(call_tokens(format));
  }
  if (required) content = nullptr;
  const auto made = [&](bool all_schemas) -> Constraint {
    const auto text = tool_grammar(format, tools, content, all_schemas);
    return text ? compile(compiler, *text, "tools") : nullptr;
  };
  if (!required) return made(false);
  // Schemas are kept where they can be; that some cannot is only an error of strict tools.
  try {
    return made(true);
  } catch (const InvalidRequest&) {
    return made(false);
  }
}

}  // namespace

grammar::GrammarCompiler make_compiler(const tokenizer::Tokenizer& tokenizer, std::span<const TokenId> ends) {
  std::vector<grammar::TokenText> tokens(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    if (tokenizer.is_assigned(id))
      tokens[static_cast<std::size_t>(id)] = {tokenizer.token_bytes(id), tokenizer.added_tokens().find(id) != nullptr};
  return grammar::GrammarCompiler(tokens, ends);
}

Constraint make_constraint(const ConstraintRequest& request, const AnswerFormat& format,
                           const tokenizer::Tokenizer& tokenizer, std::span<const TokenId> ends,
                           const grammar::GrammarCompiler* compiler) {
  Constraint out = answer_proper(request, format, compiler);
  if (request.thinking_open && (out || request.budget)) {
    grammar::ThinkingRules rules;
    if (const auto token = tokenizer.added_token(kEndThink))
      rules.closing = {*token};
    else
      rules.closing = tokenizer.encode(kEndThink);
    rules.ends.assign(ends.begin(), ends.end());
    rules.budget = request.budget;
    out = std::make_unique<grammar::BehindThinking>(std::move(rules), std::move(out));
  }
  if (!request.force_tokens.empty())
    out = std::make_unique<grammar::ForcedTokens>(request.force_tokens, std::move(out));
  return out;
}

}  // namespace hadal::chat
