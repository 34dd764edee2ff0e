// Typed access to the fields of one JSON object that remembers what was read and collects violations instead of
// throwing, so that a file's faults are reported together. A null value counts as absent.
#pragma once

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::config {

class ConfigReader {
 public:
  using Json = nlohmann::ordered_json;

  ConfigReader(const Json& object, std::string prefix, std::vector<std::string>& violations)
      : object_(object), prefix_(std::move(prefix)), violations_(violations) {}

  bool has(const char* field) const {
    const auto it = object_.find(field);
    return it != object_.end() && !it->is_null();
  }
  void ignore(const char* field) { read_.insert(field); }

  Index size(const char* field);  // required, at least 1
  Index size_or(const char* field, Index otherwise, Index least);
  double number(const char* field);  // required, finite
  double number_or(const char* field, double otherwise);
  bool boolean_or(const char* field, bool otherwise);
  std::string text_or(const char* field, const std::string& otherwise);
  std::vector<Index> sizes_or(const char* field, std::vector<Index> otherwise);  // an integer or a list of such
  ConfigReader object(const char* field);                                        // required

  template <class... Args>
  void violation(fmt::format_string<Args...> format, Args&&... args) {
    violations_.push_back(prefix_ + fmt::format(format, std::forward<Args>(args)...));
  }
  std::vector<std::string> fields() const;  // names, those with null left out
  std::vector<std::string> unread_fields() const;

 private:
  const Json* take(const char* field);

  const Json& object_;
  std::string prefix_;
  std::vector<std::string>& violations_;
  std::set<std::string> read_;
};

}  // namespace hadal::config
