// What somebody who misspelt a name may have meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hadal {

// " (did you mean chat?)" for a word that is nearly one of those known, else nothing.
std::string suggestion(std::string_view word, const std::vector<std::string>& known);

}  // namespace hadal
