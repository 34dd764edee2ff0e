// Fill in the middle (report 4.1): a share of the documents is cut into prefix, middle and suffix and written as
// fim_begin prefix fim_hole suffix fim_end middle, so that a model learns to complete between what it is given. Whole
// documents, before they are packed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/data/token_ids.h"
#include "hadal/io/digest.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::data {

struct FimTokens {
  TokenId begin = 0, hole = 0, end = 0;
};

// By the spellings of published tokenizers; throws Error naming them if the tokenizer has none. `where` names it.
FimTokens find_fim_tokens(const tokenizer::Tokenizer& tokenizer, const std::string& where);

// The middle is text[begin, end); both ends are ends of characters.
struct FimCut {
  std::size_t begin = 0, end = 0;
};

// Depends on (seed, digest of the text) alone: whether this is one of the documents that are cut, and where: two places
// drawn from all between two characters and the ends. Texts of less than two characters are left as they are.
std::optional<FimCut> fim_cut(std::string_view text, const io::Digest& digest, std::uint64_t seed, double rate);

std::vector<TokenId> encode_fim(const tokenizer::Tokenizer& tokenizer, const FimTokens& tokens, std::string_view text,
                                const FimCut& cut);

}  // namespace hadal::data
