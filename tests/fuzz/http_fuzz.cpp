// Bytes of a connection: requests within their limits, or a refusal, and the same however the bytes were cut. The first
// byte says how.
#include <cstdint>
#include <string>
#include <vector>

#include "hadal/serve/http/host_check.h"
#include "hadal/serve/http/request_reader.h"

using namespace hadal::serve;

namespace {

constexpr std::size_t kMostBody = 200;

// The requests that were read. What is no request may be refused early or late, before its end has come.
std::vector<std::string> read(const std::string& text, std::size_t piece, std::size_t most_header = 1 << 16) {
  RequestReader reader(most_header, kMostBody);
  std::vector<std::string> out;
  std::string input;
  for (std::size_t at = 0; at < text.size() && !reader.fault(); at += piece) {
    input += text.substr(at, piece);
    for (std::size_t before = ~std::size_t{0}; input.size() != before && !input.empty() && !reader.fault();) {
      before = input.size();
      reader.feed(input);
      if (reader.fault() || !reader.complete()) continue;
      const HttpRequest request = reader.take();
      if (request.body.size() > kMostBody) __builtin_trap();
      const HostRules rules{.hosts = {"good.example"}, .loopback = true, .origins = {"https://page.example"}};
      std::string seen = request.method + "\n" + request.path + "\n" + request.query + "\n" + request.body + "\n" +
                         host_fault(request, rules);
      for (const auto& [name, value] : request.headers) seen += "\n" + name + ": " + value;
      for (const auto& [name, value] : cors_headers(request, rules)) seen += "\n" + name + ": " + value;
      out.push_back(std::move(seen));
    }
  }
  if (reader.fault()) {
    if (reader.fault()->status < 400 || reader.fault()->message.empty()) __builtin_trap();
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (read(text, text.size() + 1) != read(text, 1 + data[0] % 16)) __builtin_trap();
  read(text, 1 + data[0] % 16, 300);
  return 0;
}
