#include "hadal/serve/api/error.h"

#include "hadal/serve/api/json.h"

namespace hadal::serve {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 408:
    case 504:
      return "timeout_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

}  // namespace

ApiError ApiError::of(const InvalidRequest& error) {
  const std::string message = error.what();
  std::size_t end = 0;
  while (end < message.size() && is_name(message[end])) ++end;
  std::string param = message.substr(0, end);
  const bool place = end < message.size() && (message[end] == '[' || message[end] == ':' || message[end] == '.');
  if (!place && param.find('_') == param.npos && !message.starts_with(param + " is ")) param = "";
  const bool long_prompt = message.find("are more than the context of") != message.npos;
  return {400, message, param, long_prompt ? "context_length_exceeded" : ""};
}

ApiError ApiError::of(const Failure& failure) {
  switch (failure.kind) {
    case Failure::Kind::kInvalid:
      return of(InvalidRequest(failure.message));
    case Failure::Kind::kOverloaded:
      return {503, failure.message, "", "overloaded", 1};
    case Failure::Kind::kStopped:
      return {503, failure.message, "", "stopping", 5};
    case Failure::Kind::kTooSlow:
      return {408, failure.message, "", "slow_reader"};
    case Failure::Kind::kServer:
      break;
  }
  return {500, failure.message};
}

Json ApiError::json() const {
  return {{"error",
           {{"message", what()},
            {"type", type_of(status)},
            {"param", param.empty() ? Json() : Json(param)},
            {"code", code.empty() ? Json() : Json(code)}}}};
}

HttpResponse ApiError::response() const {
  HttpResponse out{.status = status, .body = text_of(json())};
  if (retry_after > 0) out.headers.emplace_back("retry-after", std::to_string(retry_after));
  if (status == 401) out.headers.emplace_back("www-authenticate", "Bearer");
  return out;
}

}  // namespace hadal::serve
