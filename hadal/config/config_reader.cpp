#include "hadal/config/config_reader.h"

#include <cmath>

namespace hadal::config {
namespace {

// No dimension of any model comes near; products of a few such sizes still fit 63 bits.
constexpr Index kLargestSize = Index{1} << 30;

}  // namespace

const ConfigReader::Json* ConfigReader::take(const char* field) {
  seen_->read.insert(field);
  return has(field) ? &object_.at(field) : nullptr;
}

Index ConfigReader::size(const char* field) {
  if (!has(field)) {
    take(field);
    violation("{} is missing", field);
    return 1;
  }
  return size_or(field, 1, 1);
}

Index ConfigReader::size_or(const char* field, Index otherwise, Index least) {
  const Json* value = take(field);
  if (!value) return otherwise;
  const bool in_range = value->is_number_integer() &&
                        (!value->is_number_unsigned() || value->get<std::uint64_t>() <= std::uint64_t(kLargestSize)) &&
                        value->get<Index>() >= least && value->get<Index>() <= kLargestSize;
  if (in_range) return value->get<Index>();
  violation("{} is {}, an integer of at least {} was expected", field, value->dump(), least);
  return otherwise;
}

double ConfigReader::number(const char* field) {
  if (!has(field)) {
    take(field);
    violation("{} is missing", field);
    return 1;
  }
  return number_or(field, 1);
}

double ConfigReader::number_or(const char* field, double otherwise) {
  const Json* value = take(field);
  if (!value) return otherwise;
  if (value->is_number() && std::isfinite(value->get<double>()) && value->get<double>() >= 0)
    return value->get<double>();
  violation("{} is {}, a number that is not negative was expected", field, value->dump());
  return otherwise;
}

bool ConfigReader::boolean_or(const char* field, bool otherwise) {
  const Json* value = take(field);
  if (!value) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  violation("{} is {}, true or false was expected", field, value->dump());
  return otherwise;
}

std::string ConfigReader::text_or(const char* field, const std::string& otherwise) {
  const Json* value = take(field);
  if (!value) return otherwise;
  if (value->is_string()) return value->get<std::string>();
  violation("{} is {}, a string was expected", field, value->dump());
  return otherwise;
}

std::vector<Index> ConfigReader::sizes_or(const char* field, std::vector<Index> otherwise) {
  const Json* value = take(field);
  if (!value) return otherwise;
  std::vector<Index> sizes;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    if (!item.is_number_integer() || item.get<double>() < 0 || item.get<double>() > double(kLargestSize)) {
      violation("{} is {}, integers that are not negative were expected", field, value->dump());
      return otherwise;
    }
    sizes.push_back(item.get<Index>());
  }
  return sizes;
}

ConfigReader ConfigReader::object(const char* field) {
  static const Json empty = Json::object();
  const Json* value = take(field);
  const bool good = value && value->is_object();
  if (!good) violation("{} is not an object", field);
  ConfigReader inside(good ? *value : empty, prefix_ + field + ".", violations_);
  if (good) seen_->objects[field] = inside.seen_;
  return inside;
}

std::vector<std::string> ConfigReader::fields() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items())
    if (!value.is_null()) names.push_back(name);
  return names;
}

void ConfigReader::collect_unread(const Json& object, const Seen& seen, const std::string& prefix,
                                  std::vector<std::string>& names) {
  for (const auto& [name, value] : object.items()) {
    const auto inside = seen.objects.find(name);
    if (inside != seen.objects.end())
      collect_unread(value, *inside->second, prefix + name + ".", names);
    else if (!seen.read.contains(name) && !value.is_null())
      names.push_back(prefix + name);
  }
}

std::vector<std::string> ConfigReader::unread_fields() const {
  std::vector<std::string> names;
  collect_unread(object_, *seen_, "", names);
  return names;
}

}  // namespace hadal::config
