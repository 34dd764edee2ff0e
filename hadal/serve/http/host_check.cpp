#include "hadal/serve/http/host_check.h"

#include <arpa/inet.h>
#include <fmt/core.h>

#include <algorithm>

namespace hadal::serve {
namespace {

bool contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find_if(list.begin(), list.end(), [&](const std::string& s) { return s == value || s == "*"; }) !=
         list.end();
}

// "name:80" to "name", "[::1]:80" to "::1".
std::string without_port(std::string_view host) {
  if (host.starts_with('[')) return std::string(host.substr(1, std::min(host.find(']'), host.size()) - 1));
  std::string name(host.substr(0, host.find(':')));
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (name.ends_with('.')) name.pop_back();
  return name;
}

bool is_address(const std::string& name) {
  in6_addr any{};
  return ::inet_pton(AF_INET, name.c_str(), &any) == 1 || ::inet_pton(AF_INET6, name.c_str(), &any) == 1;
}

bool is_own(const std::string& name, const HostRules& rules) {
  if (name == "localhost" || name == "::1") return true;
  if (is_address(name) && (!rules.loopback || name.starts_with("127."))) return true;
  return contains(rules.hosts, name);
}

}  // namespace

std::string host_fault(const HttpRequest& request, const HostRules& rules) {
  const auto hosts =
      std::count_if(request.headers.begin(), request.headers.end(), [](const auto& h) { return h.first == "host"; });
  if (hosts > 1) return "Host: there is more than one";
  const std::string* host = request.header("host");
  // Only HTTP/1.0 may do without, and no browser does.
  if (host && !is_own(without_port(*host), rules))
    return fmt::format("Host: {} is none of this server's names; if it should be, start it with --allow-host {}", *host,
                       without_port(*host));
  const std::string* origin = request.header("origin");
  if (!origin || contains(rules.origins, *origin)) return "";
  const bool same = host && (*origin == "http://" + *host || *origin == "https://" + *host);
  if (same) return "";
  return fmt::format("Origin: {} is not allowed; if it should be, start the server with --cors-origin {}", *origin,
                     *origin);
}

Headers cors_headers(const HttpRequest& request, const HostRules& rules) {
  const std::string* origin = request.header("origin");
  if (!origin || !contains(rules.origins, *origin)) return {};
  return {{"access-control-allow-origin", *origin},
          {"vary", "origin"},
          {"access-control-allow-methods", "GET, POST, OPTIONS"},
          {"access-control-allow-headers", "authorization, content-type, x-request-id"},
          {"access-control-expose-headers", "x-request-id, retry-after"},
          {"access-control-max-age", "600"}};
}

}  // namespace hadal::serve
