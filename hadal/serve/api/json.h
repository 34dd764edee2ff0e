// JSON for the .cpp files of the API.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "hadal/io/json.h"

namespace hadal::serve {

using io::Json;

// One line; bytes that are no UTF-8 become U+FFFD.
inline std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}
// The same, cut where it would not help a sentence any more.
inline std::string shown(const Json& json) {
  std::string text = text_of(json);
  if (text.size() > 100) text = text.substr(0, 97) + "...";
  return text;
}

}  // namespace hadal::serve
