// Typed access to the fields of one JSON object that remembers what was read and collects violations instead of
// throwing, so that a file's faults are reported together. A null value counts as absent.
#pragma once

#include <fmt/core.h>

#include <map>
#include <memory>
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
  // Not there at all: null is a statement of its own ("none").
  bool is_silent(const char* field) const { return !object_.contains(field); }
  bool is_boolean(const char* field) const { return has(field) && object_.at(field).is_boolean(); }
  bool is_object(const char* field) const { return has(field) && object_.at(field).is_object(); }
  void ignore(const char* field) { seen_->read.insert(field); }

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
  // About the object itself, not one of its fields.
  template <class... Args>
  void object_violation(fmt::format_string<Args...> format, Args&&... args) {
    violations_.push_back(fmt::format("{}: ", prefix_.substr(0, prefix_.size() - !prefix_.empty())) +
                          fmt::format(format, std::forward<Args>(args)...));
  }
  std::vector<std::string> fields() const;  // names, those with null left out
  // Those of objects inside too: "rope_scaling.type".
  std::vector<std::string> unread_fields() const;

 private:
  struct Seen {
    std::set<std::string> read;
    std::map<std::string, std::shared_ptr<Seen>> objects;
  };
  const Json* take(const char* field);
  static void collect_unread(const Json& object, const Seen& seen, const std::string& prefix,
                             std::vector<std::string>& names);

  const Json& object_;
  std::string prefix_;
  std::vector<std::string>& violations_;
  std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();
};

}  // namespace hadal::config
