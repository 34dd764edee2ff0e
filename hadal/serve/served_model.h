// What the API knows of a model: everything but its weights.
#pragma once

#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hadal/chat/answer_parser.h"
#include "hadal/grammar/structured.h"
#include "hadal/infer/engine.h"
#include "hadal/io/generation_config.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::serve {

using config::TokenId;

// Makes the vocabulary for grammars when the first request wants one: that takes a second. Thread-safe.
class LazyCompiler {
 public:
  const grammar::GrammarCompiler& get(const tokenizer::Tokenizer& tokenizer, std::span<const TokenId> ends);

 private:
  std::once_flag once_;
  std::optional<grammar::GrammarCompiler> compiler_;
};

// References: what they mean must outlive it.
struct ServedModel {
  std::vector<std::string> names;  // the first is the one in answers
  std::string fingerprint;         // of weights' directory, version and numerics: whose answers are comparable
  const config::Config& config;
  const tokenizer::Tokenizer* tokenizer = nullptr;  // either may be missing
  const tokenizer::ChatTemplate* chat_template = nullptr;
  std::unique_ptr<chat::AnswerFormat> format = {};  // with a tokenizer
  std::unique_ptr<LazyCompiler> compiler = std::make_unique<LazyCompiler>();
  io::GenerationConfig defaults = {};
  std::vector<TokenId> end_tokens = {};
  infer::EngineOptions engine = {};  // resolved
  std::int64_t created = 0;     // when it was loaded, seconds of Unix time

  const grammar::GrammarCompiler& grammars() const;  // needs a tokenizer
  const std::string& name() const { return names.front(); }
  // Throw ApiError if the model has none.
  const tokenizer::Tokenizer& needs_tokenizer() const;
  const tokenizer::ChatTemplate& needs_template() const;

  std::optional<TokenId> bos() const;
  // Text without a template, behind BOS (if there is one) with `add_bos`. Text that spells control tokens stays text,
  // unless `parse_special`.
  std::vector<TokenId> encode(std::string_view text, bool add_bos, bool parse_special = false) const;
  std::vector<TokenId> encode_messages(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                                       const tokenizer::RenderOptions& options) const;
};

}  // namespace hadal::serve
