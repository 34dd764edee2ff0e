// Which tokens end an answer, and who says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/generation_config.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::serve {

struct EndTokens {
  std::vector<config::TokenId> ids;
  std::string source;  // the file that says so; empty: none does
};

// Of generation_config.json, else of config.json, else the tokenizer's eos_token: the first that names any replaces the
// others, as in transformers.
EndTokens end_tokens(const io::GenerationConfig& generation, const config::Config& config,
                     const tokenizer::Tokenizer* tokenizer);

// The first token that the template puts behind an assistant's message; empty if that is none of the added ones.
std::optional<config::TokenId> end_of_turn(const tokenizer::ChatTemplate& chat, const tokenizer::Tokenizer& tokenizer);

}  // namespace hadal::serve
