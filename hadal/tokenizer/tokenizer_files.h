// The parsers of a tokenizer's files. All of them take bytes, trust nothing and name the file and the field in errors.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/tokenizer/added_tokens.h"
#include "hadal/tokenizer/bpe.h"
#include "hadal/tokenizer/pre_tokenizer.h"

namespace hadal::tokenizer {

// What every published form of a tokenizer comes down to.
struct TokenizerData {
  Vocabulary vocabulary;
  std::array<TokenId, 256> byte_ids;
  std::vector<Merge> merges;
  bool whole_pieces_first = false;  // ignore_merges: a piece that is a token is never taken apart
  std::vector<SplitStep> steps;
  std::vector<AddedToken> added;
  // Published tiktoken classes cut long texts before anything else: at this many characters, and within runs of (non-)
  // space at so many. 0: never.
  std::size_t longest_text = 0;
  std::size_t longest_run = 0;
};

// tokenizer_config.json, as far as it concerns encoding.
struct TokenizerConfig {
  std::string bos_token, eos_token, pad_token;
  bool add_bos_token = false;
  std::map<TokenId, AddedToken> added_tokens_decoder;
};

// A byte-level BPE tokenizer.json of the `tokenizers` package.
TokenizerData parse_tokenizer_json(std::string_view text, const std::string& where);
// tiktoken.model (lines "base64 rank") with the pattern of the Moonlight and Kimi models; special tokens come from
// added_tokens_decoder, the other ids up to base + 256 are <|reserved_token_N|>.
TokenizerData parse_tiktoken_model(std::string_view text, const TokenizerConfig& config, const std::string& where);
TokenizerConfig parse_tokenizer_config(std::string_view text, const std::string& where);

}  // namespace hadal::tokenizer
