// What is wrong with a request, as OpenAI's API says it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "hadal/core/error.h"
#include "hadal/serve/channel.h"
#include "hadal/serve/http/message.h"

namespace hadal::serve {

class ApiError : public Error {
 public:
  ApiError(int http_status, const std::string& message, std::string about = "", std::string kind = "", int wait = 0)
      : Error(message), status(http_status), param(std::move(about)), code(std::move(kind)), retry_after(wait) {}
  // A 400 about a field.
  static ApiError invalid(const std::string& param, const std::string& message) { return {400, message, param}; }
  // What libraries say about a request; the field it begins with, if it is one, is the parameter.
  static ApiError of(const InvalidRequest& error);
  static ApiError of(const Failure& failure);

  int status;
  std::string param, code;  // empty: null
  int retry_after;          // seconds; 0: not said

  // {"error": {"message", "type", "param", "code"}}
  nlohmann::ordered_json json() const;
  HttpResponse response() const;
};

}  // namespace hadal::serve
