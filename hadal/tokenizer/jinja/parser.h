// Tokens to a syntax tree. What is not supported is an error with its line, here and not while rendering.
#pragma once

#include <string>
#include <string_view>

#include "hadal/tokenizer/jinja/ast.h"

namespace hadal::tokenizer::jinja {

Body parse(std::string_view source, const std::string& name);

}  // namespace hadal::tokenizer::jinja
