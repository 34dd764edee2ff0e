// Lists of token ids as users write them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hadal/config/config.h"

namespace hadal::cli {

// "[1, 2, 3]", "1,2,3" or "1 2 3" (numbers between white space, if there is no comma); `where` opens the error
// sentence. At least one id.
std::vector<config::TokenId> parse_ids(std::string_view text, const std::string& where);

}  // namespace hadal::cli
