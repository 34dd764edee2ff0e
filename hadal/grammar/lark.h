// Pieces of Lark grammars, in llguidance's dialect.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hadal/grammar/token_constraint.h"

namespace hadal::grammar {

// Markup of a model: text, or a control token.
struct Piece {
  std::string text;
  TokenId token = -1;  // if not negative, that token and no text
};
using Pieces = std::vector<Piece>;

// Expressions. Of an empty text: the empty string.
std::string lark_text(std::string_view text);
std::string lark_token(TokenId token);
// One behind the other, never empty.
std::string lark_pieces(const Pieces& pieces);
// A value that a JSON schema allows. Throws InvalidRequest for what is no schema.
std::string lark_json(std::string_view schema);

// A regular expression (between slashes) that matches exactly this text.
std::string regex_of_text(std::string_view text);

// The schema as llguidance gets it: white space between tokens is bounded, so that no answer is lost in it. Keys with
// which a schema would switch off its enforcement (x-guidance) are an InvalidRequest.
std::string bounded_schema(std::string_view schema);

}  // namespace hadal::grammar
