// The fields of a request's body. Faults are an ApiError that names the field; null is like no field.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/serve/api/error.h"

namespace hadal::serve {

class Fields {
 public:
  using Json = nlohmann::ordered_json;

  // An object; keeps a reference. `prefix` ("stream_options.") opens the names of its fields in errors.
  explicit Fields(const Json& object, std::string prefix = "");

  const Json* find(const char* name);
  // Known, and of no effect.
  void ignore(std::initializer_list<const char*> names);

  // Each leaves `to` as it was if there is no such field.
  void number(const char* name, double& to);
  void integer(const char* name, std::int64_t& to, std::int64_t least, std::int64_t most);
  void flag(const char* name, bool& to);
  void text(const char* name, std::string& to);
  void texts(const char* name, std::vector<std::string>& to);  // a string or a list of them
  void ids(const char* name, std::vector<config::TokenId>& to);
  const Json* object(const char* name);
  const Json* list(const char* name);

  [[noreturn]] void refuse(const char* name, const std::string& what) const;
  // Fields that nobody asked for.
  std::vector<std::string> unknown() const;

 private:
  const Json& object_;
  std::string prefix_;
  std::set<std::string> known_;
};

// The body as an object. Throws ApiError.
nlohmann::ordered_json parse_body(const std::string& body);

}  // namespace hadal::serve
