// Whether a browser may have been made to send this. Any web page can reach a server on loopback, and a page's own name
// can be made to point there: so the Host has to be one of this server's, and an Origin one of those allowed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/serve/http/message.h"

namespace hadal::serve {

struct HostRules {
  // Besides addresses (those of loopback alone if `loopback`) and localhost. Without ports; "*": any.
  std::vector<std::string> hosts = {};
  bool loopback = true;              // the server listens on loopback alone
  std::vector<std::string> origins = {};  // of web pages that may ask: "https://chat.example"; "*": any
};

// The sentence to refuse with; empty if all is well.
std::string host_fault(const HttpRequest& request, const HostRules& rules);
// What a browser wants to read in the answer to an allowed origin; empty for others.
Headers cors_headers(const HttpRequest& request, const HostRules& rules);

}  // namespace hadal::serve
