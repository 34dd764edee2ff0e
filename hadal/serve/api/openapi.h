// /openapi.json: what there is at which path.
#pragma once

#include <string>

namespace hadal::serve {

std::string openapi_json(const std::string& server_version);

}  // namespace hadal::serve
