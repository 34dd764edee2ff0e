// Tokens to a syntax tree. A tag or construct that is not supported is an error with its line here; an unknown filter,
// test or function only where it is evaluated, as jinja2 does in branches that are not taken.
#pragma once

#include <string>
#include <string_view>

#include "hadal/tokenizer/jinja/ast.h"

namespace hadal::tokenizer::jinja {

Body parse(std::string_view source, const std::string& name);

}  // namespace hadal::tokenizer::jinja
