// Renders a syntax tree. Bounded in steps, output and depth; sees nothing but the variables it is given.
#pragma once

#include <map>
#include <string>

#include "hadal/tokenizer/jinja/ast.h"

namespace hadal::tokenizer::jinja {

// `name` opens error sentences; `variables` are the template's globals beside the built-in functions.
Text render(const Body& body, const std::string& name, std::map<std::string, Value> variables);

}  // namespace hadal::tokenizer::jinja
